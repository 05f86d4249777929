"""Words of a question, recognised: spelling made even, and what is negated told from what is not.

Nothing here understands English. What is not recognised is not answered; so a word that is missing
costs an answer and never gives a permission.
"""

import re
import unicodedata

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'"})
_AUXILIARIES = "do|does|did|is|are|was|were|could|should|would|must|need|have|has|had|might"
_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|cant|cannot)\b"), "can not"),
    (re.compile(r"\b(?:won't|wont)\b"), "will not"),
    (re.compile(r"\bshan't\b"), "shall not"),
    (re.compile(r"\b(?:ain't)\b"), "is not"),
    (re.compile(rf"\b({_AUXILIARIES})n'?t\b"), r"\1 not"),
    (re.compile(r"\b(\w+)'(?:s|re|ve|ll|d|m)\b"), r"\1"),
)
_SENTENCES = re.compile(r"[.!?;\n]+")
_NOISE = re.compile(r"[^\w\s.!?;:,#/-]")
_SPACES = re.compile(r"\s+")

_FILLERS = (
    r"(?:(?:simply|just|ever|even|silently|quietly|be|been|being|to|want|wanting|wish|going|plan|"
    r"planning|intend|intending|try|trying|have|allowed)\s+){0,4}"
)
"""No pronouns: "can't it be ignored" asks for what it seems to deny."""
_SUBJECT = r"\b(?!(?:why|so|then|how|when|ok|okay|please)\b)\w+\s+"
"""A word before the verb; without one it is a question: "isn't ignoring it fine"."""
_NEGATORS = (
    rf"{_SUBJECT}(?:do|does|did|is|am|are|was|were|will|would|shall|should|must|may|might|could|"
    r"can|have|has|had)\s+not",
    r"\b(?:and|but|decided|promised?|prefer|want|going|try|careful|sure)\s+not",
    r"\b(?:never|without|instead\s+of|rather\s+than|no\s+longer)",
    r"\b(?:avoid|avoiding|refrain\s+from|refuse|refuses|refusing|stop)",
)
_NEGATED = re.compile(rf"(?:{'|'.join(_NEGATORS)})\s+{_FILLERS}$")
_REACH = 80
"""Characters before an action in which its negation can stand."""


def plain_words(text: str) -> str:
    """The text in lower case, contractions spelt out, other signs than punctuation dropped."""
    even = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    even = "".join(sign for sign in even if unicodedata.category(sign) != "Cf")
    for pattern, spelt in _CONTRACTIONS:
        even = pattern.sub(spelt, even)
    return _SPACES.sub(" ", _NOISE.sub(" ", even)).strip()


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of plain words."""
    return tuple(filter(None, (sentence.strip() for sentence in _SENTENCES.split(text))))


def words(*alternatives: str) -> re.Pattern[str]:
    """Any of these expressions, as whole words; a `~` leaves the end of a word open."""
    spelt = "|".join(alternative.replace("~", r"\w*") for alternative in alternatives)
    return re.compile(rf"\b(?:{spelt})\b")


def is_meant(action: re.Pattern[str], text: str) -> bool:
    """Whether the action occurs at least once without a negation before it.

    "I will not ignore it" does not mean it; "can't I ignore it" and "why not ignore it" do.
    """
    return any(not _is_negated(text, match.start()) for match in action.finditer(text))


def _is_negated(text: str, position: int) -> bool:
    return _NEGATED.search(text[max(0, position - _REACH) : position]) is not None
