"""The vocabulary of the rules' prohibitions: what is done, and to what, in the askers' words.

A `~` leaves the end of a word open. Wide on purpose: see `pipeline/prohibitions.py`.
"""

import re

from pipeline.rule_words import words

ERRORS = words(
    "errors?", "err", "fail~", "exceptions?", "warnings?", "bugs?", "defects?", "crash~", "red",
    "broken", "breaks?", "breakage", "broke", "assert~", "stack ?traces?", "ts\\d{3,5}",
    "problems?", "regressions?", "flaky", "flake", "severit~", "faults?", "issues?",
    "exit codes?",
)  # fmt: skip
CHECKS = words(
    "tests?", "test ?suite", "test ?cases?", "checks?", "checkers?", "lint~", "type ?check~",
    "builds?", "gates?", "validat~", "verif~", "verdicts?", "coverage", "hooks?", "pre-?commit",
    "compil~", "mypy", "ruff", "eslint", "tsc", "ci", "specs?", "alarms?", "alerts?", "findings?",
    "rules?",
)  # fmt: skip
ERRORS_OR_CHECKS = re.compile(f"{ERRORS.pattern}|{CHECKS.pattern}")

CONSTRUCTIVE = words(
    "fix(?:ed|ing)?", "repair~", "correct(?:ed|ing)?", "resolv~", "address~", "investigat~",
    "analy[sz]~", "debug~", "reproduc~", "report(?:ed|ing)?", "rais(?:e|ing)",
    "look(?:ing)? (?:at|into)", "explain~", "mean", "understand~", "ask~", "help~", "read", "see",
    "find", "show~", "solv~", "diagnos~", "describ~",
)  # fmt: skip
"""What may well be done about an error; the rules do not speak of it."""
PERMISSION = words(
    "may", "can", "could", "might", "shall", "should", "allow~", "permi(?:t|ssion)~", "okay",
    "ok", "fine", "all ?right", "acceptable", "let", "would", "possible", "objections?", "mind",
    "want",
)  # fmt: skip
"""How leave is asked."""

PLAY_DOWN = words(
    "down-?grad~", "demot~", "ignor~", "supp?ress~", "silenc~", "mut(?:e|es|ed|ing)",
    "hid(?:e|es|ing|den)", "mask~", "swallow~", "by-?pass~", "circumvent~", "disregard~",
    "overlook~", "dismiss~", "waiv~", "white-?list~", "allow-?list~", "exempt~", "tolerat~",
    "accept~", "xfail~", "quarantin~", "overrid~", "conceal~", "forget~", "forgo~", "postpon~",
    "defer~", "relax~", "loosen~", "weaken~", "soften~", "ton(?:e|ed|ing) down",
    "play(?:ed|ing)? down", "lower~", "reduc~", "decreas~", "lessen~", "minimi[sz]~", "downplay~",
    "de-?escalat~", "neglect~", "eras~", "sweep~", "dodg~", "evad~", "sidestep~", "discard~",
    "neutrali[sz]~", "filter~", "cover(?:ed|ing)? up", "live with", "pretend~",
    "let (?:\\w+ ){0,3}(?:slide|pass|go)", "look(?:ing)? (?:away|past)",
    "turn(?:ing)? a blind eye", "(?:get|getting|work|working|way) a?round", "re-?classif~",
    "re-?label~", "shelv(?:e|ed|ing)", "park(?:ed|ing)?",
    "(?:set|sets|setting|put|push)~ (?:\\w+ ){0,3}(?:aside|off)", "put~ up with", "excus~",
    "triviali[sz]~", "diminish~", "snooz~", "won'?t ?fix", "whitewash~", "gloss~ over",
    "black-?list~", "de-?prioriti[sz]~", "lenient", "nullif~", "void~", "unflag~",
    "(?:no longer|stop) (?:check|report|rais|fail|count|run)~",
    "(?:brush|wav|shrug)~ (?:\\w+ ){0,3}(?:off|aside|through)", "catch(?:ing)? and",
    "leav(?:e|ing) (?:\\w+ ){0,4}(?:fail~|red|broken|unfixed|open|as is|alone|out|there|be)",
)  # fmt: skip
SWITCH_OFF = words(
    "skip~", "disabl~", "deactivat~", "(?:turn|switch|shut)~ (?:\\w+ ){0,3}off",
    "comment~ (?:\\w+ ){0,3}out", "remov~", "delet~", "drop~", "omit~", "leav(?:e|ing) out",
    "cut(?:ting)? (?:\\w+ ){0,3}out", "exclud~", "no-?verify",
    "(?:rerun|re-run|retry|repeat)~ (?:\\w+ ){0,5}until", "get(?:ting)? rid of",
    "stub(?:bed|bing)? out",
)  # fmt: skip
AS_LESS = words(
    "(?:as|into|to|in|only|just|at|for|become|becomes|with|mere|merely|called?|be|is) "
    "(?:be )?(?:an? |the |mere |only |just )*(?:warn|warning|warnings|info|information|"
    "informational|debug|hint|note|non-?fatal|non-?blocking|non-?critical|cosmetic|minor|"
    "harmless|optional|trivial|negligible|unimportant|low(?:er)?(?: severity| priority| "
    "level)?|less severe|passed|passing|green|success)",
    "(?:mak|turn|call|consider|declar|rat|rank|grad|label|log|classif|convert|downplay)~ "
    "(?:\\w+ ){0,6}(?:warning|warnings|info|debug|minor|harmless|optional|non-?fatal|"
    "cosmetic)",
    "warning instead", "only warn~", "just warn~",
    "(?:lower|lesser|smaller|milder) (?:severity|level)",
)  # fmt: skip
NEGLECT = words(
    "(?:without|instead of|rather than|skip|skipping) (?:first |even |ever )*(?:fix|resolv|"
    "address|report|handl|repair|rais|correct|solv|investigat|mention)~",
    "(?:may|can|could|should|shall|might) (?:i|we) (?:please )?not (?:report|raise|fix|"
    "mention|count|handle|log|record|tell|fail)",
    "if (?:i|we|you) (?:do not|never) (?:report|fix|raise|mention|handle|count|log)",
    "need (?:i |we )?not (?:be )?(?:report|fix|rais|mention|handl)~", "keep (?:quiet|silent)",
    "(?:to|just|simply|please) not (?:report|raise|fix|mention|count|handle|log|record|"
    "tell|fail)",
    "not tell~ any(?:one|body)", "unreported", "unfixed",
)  # fmt: skip
CONTINUE = words(
    "continu~", "proceed~", "go(?:ing)? (?:on|ahead|forward)",
    "mov(?:e|ing) (?:on|forward|ahead)", "carry~ on", "press(?:ing)? on",
    "keep (?:going|working)",
)  # fmt: skip
GO_ON = words(
    "continu~", "proceed~", "go(?:ing)? (?:on|ahead|forward)",
    "mov(?:e|ing) (?:on|forward|ahead)", "carry~ on", "press(?:ing)? on",
    "keep (?:going|working|running)", "merg~", "deploy~", "deliver~", "ship~", "releas~", "push~",
    "commit~", "complet~", "finish~", "clos(?:e|ing)", "start~", "begin~", "pass(?:es)?",
    "approv~", "work~", "run(?:ning)?", "operat~", "resum~", "report (?:success|complete)",
    "hand(?:ing)? (?:in|over|off)",
)  # fmt: skip
REGARDLESS = words(
    "despite", "in spite", "spite of", "even though", "although", "though", "regardless",
    "anyway", "anyhow", "notwithstanding", "even if", "nevertheless", "nonetheless", "while",
    "in the face of", "knowing", "with", "when", "if", "as long as", "still", "until", "before",
    "whether or not", "no matter",
)  # fmt: skip
FAKE = words(
    "fak(?:e|es|ed|ing)", "forg(?:e|es|ed|ing)", "falsif~", "tamper~", "cheat~", "fabricat~",
    "invent~", "hard-?cod~", "manipulat~", "doctor(?:ed|ing)", "massag~",
    "(?:turn|make|mark|set|paint)~ (?:\\w+ ){0,6}green",
    "(?:mark|count|report|treat|declare|set|label|class|record|log|call|claim)~ (?:\\w+ "
    "){0,8}(?:as )?(?:pass|passed|passing|complete|completed|done|successful|success|ok)",
)  # fmt: skip
STEPS = words(
    "stages?", "qa", "quality assurance", "critiques?", "reviews?", "research", "testing",
    "tests?", "gates?", "build verification", "verification", "approvals?", "statistics",
    "documentation", "docs", "steps?", "groups?", "audits?", "devops", "notices?", "verdicts?",
    "security testing", "performance testing", "cynthia", "sylvia", "billy", "liz", "todd", "vic",
    "priya", "berry", "tim", "roy", "jen",
)  # fmt: skip
LEAVE_OUT = words(
    "skip~", "omit~", "by-?pass~", "leav(?:e|ing) (?:\\w+ ){0,4}out", "jump~", "drop~", "avoid~",
    "circumvent~", "short-?cut~", "disabl~",
    "without (?!skip|ignor|omit|leav|bypass|disabl|remov|touch|chang|drop)(?:\\w+ "
    "){0,3}(?:qa|critiqu~|review~|test~|approv~|verdict~|verif~|check~|quality|gate~|"
    "build~|notice|research|sylvia|billy|liz)",
    "go(?:ing)? (?:straight|directly)", "no need (?:for|of)", "forgo~", "ignor~", "do without",
    "pass over", "cut(?:ting)?", "waiv~", "overrid~",
    "before (?:\\w+ ){0,3}(?:qa|critique|review|approval|sylvia|billy|liz)",
)  # fmt: skip
SELF_APPROVE = words(
    "approv(?:e|ing) (?:\\w+ ){0,4}(?:myself|own|mine|my|critique|verdict)",
    "(?:over-?rul|overrid)~", "self-?approv~", "(?:sign|signing) (?:\\w+ ){0,3}off",
    "set (?:\\w+ ){0,3}verdict", "rubber-?stamp~",
)  # fmt: skip
OWN_WORK = words(
    "my",
    "own",
    "myself",
    "verdict~",
    "critique",
    "qa",
    "sylvia",
    "billy",
    "liz",
    "gate",
    "human",
)

DEPENDENCIES = words(
    "nats", "jet ?stream", "databases?", "db", "postgres~", "temporal", "dependenc~", "sdlc",
    "event ?bus", "message (?:bus|broker|queue)", "broker", "servers?", "services?",
    "infrastructure", "backend services?",
)  # fmt: skip
ABSENT = words(
    "without", "despite", "down", "offline", "off ?line", "unavailable", "unreachable",
    "not (?:running|available|reachable|there|up|responding|working|answering)", "lost",
    "missing", "unresponsive", "dead", "gone", "crash~", "stopped", "outage", "disconnected",
    "no (?:\\w+ ){0,2}(?:nats|db|database|postgres|temporal|connection|broker)", "fails?",
    "failed", "failing", "broken", "can not be reached", "skip~", "unhealthy", "not reach~",
    "ignor~",
)  # fmt: skip
DEGRADED = words(
    "degraded?", "degradation", "fall-?back", "fall(?:ing)? back", "fail-?over", "best effort",
    "in-?memory",
    "(?:buffer|cache|queue|store|keep|write)~ (?:\\w+ ){0,4}(?:local~|memory|file|files|disk)",
    "limp~", "offline mode", "emergency mode", "gracefully",
)  # fmt: skip
P0 = words("p-?0s?", "p zero", "priority (?:0|zero)", "catastroph~", "emergenc~", "top priority")
BESIDE_P0 = re.compile(
    f"{GO_ON.pattern}|"
    + words(
        "take", "taking", "pick~", "open~", "parallel", "other", "another", "ignor~", "skip~",
        "overtak~", "anyway", "jump~", "exempt~", "by-?pass~", "keep~", "launch~",
        "go (?:first|before)",
    ).pattern
)  # fmt: skip
SERVERS = words(
    "nats", "jet ?stream", "streams?", "consumers?", "databases?", "db", "postgres~", "temporal",
    "servers?", "infrastructure", "docker", "containers?", "workers?", "hosts?", "services?",
    "brokers?", "machines?", "supervisors?", "orchestrator", "stack",
)  # fmt: skip
TEND = words(
    "re-?start~", "re-?boot~", "re-?creat~", "bounc~", "bring(?:ing)? (?:\\w+ ){0,4}(?:back|up)",
    "re-?install~", "re-?configur~", "purg~", "flush~", "wip(?:e|es|ing)", "truncat~", "repair~",
    "heal~", "fix~", "reset~", "recover~", "migrat~", "upgrad~", "power cycle~", "docker compose",
    "systemctl", "(?:shut|take|tear)~ (?:\\w+ ){0,4}down",
    "(?:start|stop|kill|launch|end|shut)~ (?:up |down |the |our |a |an |another |this "
    ")*(?:\\w+ )?(?:nats|jet ?stream|stream|database|db|postgres~|temporal|server|"
    "infrastructure|docker|container|worker|host|service|broker|machine|supervisor|"
    "orchestrator|stack)s?",
)  # fmt: skip
PROCESSES = words(
    "kill~ (?:\\w+ ){0,4}(?:agents?|process~|runs?|supervisor|roy|jen|billy|liz|todd|vic|"
    "priya|berry|tim|cynthia|sylvia)",
    "(?:terminat|end)~ (?:\\w+ ){0,3}(?:agents?|process~|runs?)",
)  # fmt: skip
UNTRACKED = words(
    "outside (?:of )?(?:the |our |your )*(?:sdlc|database|records?|orchestrator|workflow|"
    "system|process|tracking)",
    "(?:without|not|skip|skipping|avoid|avoiding|bypass|bypassing|around|no|instead of) "
    "(?:\\w+ ){0,3}(?:record~|track~|sdlc|row|rows|requirement number|ticket|register~|"
    "registration|logged|logging)",
    "un-?track~", "un-?record~", "unregister~", "un-?log~", "off the (?:books|record)",
    "under the table", "secret~",
    "(?:without|not) (?:\\w+ ){0,2}(?:telling|informing|publish~|notif~|report~) (?:the "
    ")?(?:orchestrator|database|sdlc|anyone|anybody|nats)",
)  # fmt: skip
WRITE = words(
    "edit~", "modif~", "updat~", "chang~", "writ~", "alter~", "insert~", "manipulat~", "patch~",
    "set~", "fix~", "delet~", "clear~", "correct~",
)  # fmt: skip
RECORDS = words(
    "sdlc",
    "(?:requirement|stage|phase|gate|run|failure|blocker)s? (?:row|record|table|state|status)s?",
    "phase history", "orchestrator (?:database|tables?|records?)", "deadline file",
    "run directory",
)  # fmt: skip
