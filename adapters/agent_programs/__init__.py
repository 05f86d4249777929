"""Coding agents' programs as agents: one adapter a kind, all over the same supervisor."""

from adapters.agent_programs.claude_code import ClaudeCode
from adapters.agent_programs.codex import Codex
from adapters.agent_programs.gemini import GeminiCli
from adapters.agent_programs.program import AgentProgram

PROGRAMS: dict[str, AgentProgram] = {
    program.kind: program
    for program in (
        ClaudeCode(),
        Codex(),
        GeminiCli(),
    )
}
"""Every kind by its name in the agents file: a new one is a file beside this one and a line."""
