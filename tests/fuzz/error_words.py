"""Every error word that Redis has in its source (`grep -o '"-[A-Z]* '`, version 8), one of Valkey, and unknown ones."""

from __future__ import annotations

#: How Redis 6 wraps the error of a command that a script called.
_WRAPPED = "ERR Error running script (call to f_0123456789abcdef): @user_script:12: @user_script: 12: -{}"

_FROM_REDIS: tuple[str, ...] = (
    "ASK 3999 127.0.0.1:6381",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "BUSYGROUP Consumer Group name already exists",
    "BUSYKEY Target key name already exists.",
    "CLUSTERDOWN The cluster is down",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "DENIED Redis is running in protected mode because protected mode is enabled",
    "ERR max number of clients reached",
    "ERR operation not permitted",
    "ERR syntax error",
    "ERR unknown command 'EVALSHA', with args beginning with: ",
    "EXECABORT Transaction discarded because of previous errors.",
    "INPROG Failover already in progress",
    "INVALIDOBJ Corrupted HLL object detected",
    "IOERR error or timeout connecting to the client",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "MOVED 3999 127.0.0.1:6381",
    "NOAUTH Authentication required.",
    "NOGOODSLAVE No suitable replica to promote",
    "NOGROUP No such key 'x' or consumer group 'y'",
    "NOMASTERLINK Can't SYNC while not connected with my master",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "NOPROTO unsupported protocol version",
    "NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority.",
    "NOREPLICAS Not enough good replicas to write.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "NOTBUSY No scripts in execution right now.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "REDIRECT 127.0.0.1:6381",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED client unblocked via CLIENT UNBLOCK",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "UNSTABLE replication link",
    "WRONGPASS invalid username-password pair or user is disabled.",
)
_UNKNOWN: tuple[str, ...] = ("NEWWORD of a later version", "X", "err lower case", "TOOLONG " + "x" * 3000)
_WITHIN_SCRIPTS = ("NOREPLICAS", "MISCONF", "OOM", "READONLY", "LOADING", "NOPERM", "NEWWORD")

WORDS: tuple[str, ...] = (
    *_FROM_REDIS,
    *_UNKNOWN,
    *(_WRAPPED.format(text) for text in _FROM_REDIS if text.split()[0] in _WITHIN_SCRIPTS),
    _WRAPPED.format("NEWWORD of a later version"),
)


def name_of(text: str) -> str:
    """A short name of an error, for tables."""
    wrapped = text.startswith("ERR Error running script")
    words = text.rpartition("-")[2] if wrapped else text
    name = " ".join(words.split()[: 3 if words.startswith("ERR") else 1])
    return f"{name} in a script" if wrapped else name
