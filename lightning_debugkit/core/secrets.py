"""What must not be kept: files that are secrets by name, text that holds a token, credentials in URLs and arguments.

A token is known by the form its issuer gives it, or by the name of what it is set to, never by its entropy: a file that
is left out for no reason is code that is lost. Source files are judged by their text alone.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

HIDDEN = "***"

_SOURCE = frozenset(
    (
        *(".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".ipynb", ".jl", ".js", ".lua", ".md", ".py", ".pyi"),
        *(".pyx", ".r", ".rs", ".rst", ".scala", ".sh", ".sql", ".ts"),
    )
)
_NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".pypirc", ".npmrc", ".htpasswd"),
    *(".git-credentials", "credentials", "credentials.*", "*credentials.json", "*secret*", "kubeconfig"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.gpg"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "kaggle.json", "*service_account*.json", "*service-account*.json"),
)
_EXAMPLES = ("*.example", "*.sample", "*.template", "*.dist", "*example.env", "*.pub")

_TOKENS = (  # what it is, words of which one must be there (they are found fast), and its form
    ("a GitHub token", b"ghp_ gho_ ghu_ ghs_ ghr_", rb"\bgh[opsur]_([A-Za-z0-9]{36,})"),
    ("a GitHub token", b"github_pat_", rb"\bgithub_pat_([A-Za-z0-9_]{50,})"),
    ("a GitLab token", b"glpat- gldt- glrt- glcbt- glptt-", rb"\bgl(?:pat|dt|rt|cbt|ptt)-([A-Za-z0-9_-]{20,})"),
    ("a Hugging Face token", b"hf_ api_org_", rb"\b(?:hf|api_org)_([A-Za-z]{34})\b"),
    ("an API key", b"sk-", rb"\bsk-((?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{32,}|[A-Za-z0-9]{32,})"),
    ("an AWS key", b"AKIA ASIA", rb"\b(?:AKIA|ASIA)([A-Z2-7]{16})\b"),
    (
        "an AWS key",
        b"secret_access_key SECRET_ACCESS_KEY",
        rb"(?i:secret_access_key)['\"\]]*\s*[:=]\s*['\"]?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
    ),
    ("a Google API key", b"AIza", rb"\bAIza([A-Za-z0-9_-]{35})"),
    ("a Slack token", b"xox", rb"\bxox[abeoprs]-([A-Za-z0-9-]{20,})"),
    ("a PyPI token", b"pypi-AgEI", rb"\bpypi-AgEI([A-Za-z0-9_-]{50,})"),
    ("an npm token", b"npm_", rb"\bnpm_([A-Za-z0-9]{36})\b"),
    (
        "a Weights & Biases key",
        b"wandb WANDB",  # 40 hex digits alone are any commit of any repository
        rb"(?i:wandb[._]?(?:api_?)?key|wandb\.login\(\s*key|machine\s+api\.wandb\.ai\s+login\s+\S+\s+password)"
        rb"['\"\]]*\s*[:=\s,]\s*['\"]?([0-9a-f]{40})\b",
    ),
    (
        "a private key",
        b"PRIVATE",  # the header alone is also in programs that read keys
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*"
        rb"(?:[A-Za-z-]+: [^\n]*\n\s*)*([A-Za-z0-9+/]{24,}(?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{24,})*)",
    ),
    ("a password in a URL", b"://", rb"://[^\s/:@'\"]*:(?=[^\s/@'\"]*[0-9])([^\s/@'\"]{12,})@"),
    (
        "a value with the name of a secret",
        b"' \"",  # with letters and digits: words, folders, addresses and patterns to be filled in are none
        rb"[:=]\s*[bfru]{0,2}['\"](?![/~.]|\w+://)(?=[^'\"\s]*[0-9])(?=[^'\"\s]*[A-Za-z])"
        rb"(?P<named>[^'\"\s<>{}$%*]{12,})['\"]",
    ),
)
_EACH = tuple((says, marks.split(), re.compile(pattern)) for says, marks, pattern in _TOKENS)
# In a pickle the length of a text stands before it, and the next instruction behind: they may be letters. So is the n
# of a line end that is written as two characters, as in a message that shows a text.
_BEFORE = re.compile(rb"(\w+)['\"\]]*\s*(?::[\w.\[\]| ]+)?$")  # what a value is set to, with its annotation
_LONGEST = 100  # characters of that
_BOUNDS = re.compile(rb"\\b|\(\?!\[A-Za-z0-9/\+\]\)")
_UNBOUNDED = tuple((says, marks.split(), re.compile(_BOUNDS.sub(b"", pattern))) for says, marks, pattern in _TOKENS)
_LEAST = 12  # characters of a value that is known by its name alone: shorter ones are words of other meanings, too

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::\d*)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_SECRET_WORDS = frozenset(
    (
        *("accesskey", "accesstoken", "apikey", "auth", "authtoken", "bearer", "credential", "credentials"),
        *("apikeys", "passphrase", "passphrases", "passwd", "password", "passwords", "pwd", "secret", "secrets"),
        "token",
    )
)
_KEYS_OF = frozenset(("access", "account", "api", "auth", "encryption", "license", "private", "secret", "wandb"))
_PASS_OF = frozenset(("", "admin", "credentials", "database", "db", "mail", "root", "smtp", "user"))
_VOCABULARY = frozenset(
    (
        *("bos", "cls", "decoder", "end", "eos", "eot", "image", "mask", "max", "min", "n", "new", "next", "num"),
        *("pad", "per", "sep", "special", "start", "stop", "trigger", "unk"),
    )
)
_SETTING = re.compile(r"^(?P<name>-{0,2}[+~]*[\w.@/-]+)(?P<equals>=)(?P<value>.+)$", re.DOTALL)
_ITEM = re.compile(r"(?P<quote>['\"])(?P<name>[\w.-]+)(?P=quote)(?P<colon>\s*:\s*)(?P<value>\"[^\"]*\"|'[^']*')")


def secret_name(path: str | PurePosixPath) -> str | None:
    """Return why a file of that name is taken for a secret, ``None`` if it is not.

    >>> secret_name("deploy/.env.local")
    'secret by its name: .env.local'
    >>> secret_name("pkg/secret_sharing.py") is None and secret_name(".env.example") is None
    True
    """
    name = PurePosixPath(path).name
    low = name.lower()
    if PurePosixPath(low).suffix in _SOURCE or any(fnmatchcase(low, pattern) for pattern in _EXAMPLES):
        return None
    if any(fnmatchcase(low, pattern) for pattern in _NAMES):
        return f"secret by its name: {name}"
    return None


def secret_text(data: bytes, is_pickled: bool = False) -> str | None:
    """Return what secret the bytes of a file hold, ``None`` if none is known; the secret itself is never told.

    Placeholders of documentation, such as ``ghp_xxxx...``, are none.

    Args:
        is_pickled: They are a pickle, in which texts have no bounds of their own, and no lines.

    >>> secret_text(b"commit 3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d") is None
    True
    """
    for says, marks, pattern in _UNBOUNDED if is_pickled else _EACH:
        if not any(mark in data for mark in marks):
            continue
        for match in pattern.finditer(data):
            if _is_real(match):
                line = data.count(b"\n", 0, match.start()) + 1
                return f"holds {says}" if is_pickled else f"holds {says} in line {line}"
    return None


def secret_values(*settings: Mapping[str, Any]) -> dict[str, str]:
    """Return values that are secrets by their names, and these: of settings, the environment and the command line.

    >>> secret_values({"lr": 0.1, "tracker": {"api_key": "not-of-any-known-form"}})["not-of-any-known-form"]
    'api_key'
    """
    options = dict(zip(sys.argv, sys.argv[1:], strict=False))
    options |= dict(argument.split("=", 1) for argument in sys.argv if "=" in argument)
    named = (item for each in (*settings, os.environ, options) for item in _leaves(each))
    return {value: name.lstrip("-") for name, value in named if is_secret_name(name) and _may_be_secret(value)}


def _may_be_secret(value: str) -> bool:
    # PWD is a folder, and credentials are often the path of a file; what follows a switch is another option.
    return len(value.strip()) >= _LEAST and not (Path(value).is_absolute() or value.startswith("-"))


def _leaves(settings: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif isinstance(value, str):
            yield str(name), value


def without_tokens(value: Any, values: Collection[str] = ()) -> Any:
    """Return a value of plain types whose texts have no token and none of ``values``; all else of them is left.

    >>> without_tokens({"error": ["401 for abcdefgh-12345", 3]}, ["abcdefgh-12345"])
    {'error': ['401 for ***', 3]}
    """
    if isinstance(value, Mapping):
        return {name: without_tokens(part, values) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_tokens(part, values) for part in value) if type(value) in (list, tuple) else value
    return _hidden(value, values) if type(value) is str else value


def _hidden(text: str, values: Collection[str]) -> str:
    for secret in values:
        text = text.replace(secret, HIDDEN)
    data = text.encode(errors="surrogatepass")
    for _, marks, pattern in _UNBOUNDED:
        if any(mark in data for mark in marks):
            data = pattern.sub(_without_body, data)
    return data.decode(errors="surrogatepass")


def _without_body(match: re.Match[bytes]) -> bytes:
    first, last = match.start(1) - match.start(), match.end(1) - match.start()
    return match[0][:first] + HIDDEN.encode() + match[0][last:] if _is_real(match) else match[0]


def _is_real(match: re.Match[bytes]) -> bool:
    """A placeholder repeats a character, or says what it is; what has no form of its own needs a secret's name."""
    body = match[1]
    if len(set(body)) < min(10, len(body) // 2) or b"EXAMPLE" in body:
        return False
    if "named" not in match.re.groupindex:
        return True
    name = _BEFORE.search(match.string, max(match.start() - _LONGEST, 0), match.start())
    return name is not None and is_secret_name(name[1].decode(errors="replace"))


def scrub_url(url: str) -> str:
    """Return a URL without user, password, query and fragment; what cannot be read is not told.

    >>> scrub_url("https://me:hunter2@example.org:8443/team/model.git?private_token=abc#x")
    'https://example.org:8443/team/model.git'
    >>> scrub_url("git@example.org:team/model.git")
    'example.org:team/model.git'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
        if re.match(r"[A-Za-z]:[\\/]|[./\\~]", rest):
            return rest  # a folder of this machine
        host, colon, path = rest.partition(":")
        if "@" in path.partition("/")[0]:  # user:password@host
            host, colon, path = path.rpartition("@")[2].partition(":")
        cleaned = host.rpartition("@")[2] + colon + path
    else:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
        authority, slash, path = rest.partition("/")
        if "@" in authority and "@" not in path:
            authority = authority.rpartition("@")[2]
        elif "@" in rest and ("@" in authority or _HOST.fullmatch(authority) is None):  # a password with a slash
            authority, slash, path = rest.rpartition("@")[2].partition("/")
        cleaned = authority + slash + path if _HOST.fullmatch(authority) else HIDDEN
    return scheme + separator + (HIDDEN if secret_text(cleaned.encode()) else cleaned)


def scrub_arguments(argv: Sequence[str]) -> list[str]:
    """Return command line arguments with the values of secret options, tokens and credentials in URLs hidden.

    >>> scrub_arguments(["train.py", "--hf-token", "abc", "--api_key=abc", "--max_tokens=5", "--lr", "0.1"])
    ['train.py', '--hf-token', '***', '--api_key=***', '--max_tokens=5', '--lr', '0.1']
    """
    scrubbed, hide_next = [], False
    for argument in argv:
        if hide_next and not argument.startswith("--"):
            scrubbed.append(HIDDEN)
            hide_next = False
            continue
        hide_next = argument.startswith("-") and "=" not in argument and is_secret_name(argument)
        scrubbed.append(scrub_text(argument))
    return scrubbed


def scrub_text(argument: str) -> str:
    """Return a text with values of secret names, tokens and credentials in URLs hidden.

    >>> scrub_text("postgres://me:hunter2@host/db")
    'postgres://host/db'
    """
    setting = _SETTING.match(argument)
    if setting and is_secret_name(setting["name"]):
        return f"{setting['name']}={HIDDEN}"
    argument = _ITEM.sub(_hide_item, argument)
    argument = _URL.sub(_scrub_argument_url, argument)
    if secret_text(argument.encode(errors="replace")):
        return f"{setting['name']}={HIDDEN}" if setting else HIDDEN
    return argument


def _hide_item(item: re.Match[str]) -> str:
    if not is_secret_name(item["name"]):
        return item[0]
    return f'{item["quote"]}{item["name"]}{item["quote"]}{item["colon"]}"{HIDDEN}"'


def _scrub_argument_url(url: re.Match[str]) -> str:
    """A query may say which data were read: it goes only with a secret in it."""
    address, mark, query = url[0].partition("?")
    names = [pair.partition("=")[0] for pair in re.split("[&;]", query)]
    return scrub_url(address) + (mark + query if query and not any(map(_is_secret_parameter, names)) else "")


def _is_secret_parameter(name: str) -> bool:
    return is_secret_name(name) or name.lower() in ("sig", "signature", "key", "x-amz-signature", "x-goog-signature")


@functools.lru_cache(4096)  # the environment is asked for every event of a journal
def is_secret_name(name: str) -> bool:
    """Tell whether a name is that of a secret.

    ``--hf-token`` and ``logger.api_key`` are, ``--max-tokens`` and ``--pad_token`` are none.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = [word for word in re.split(r"[^a-z0-9]+", snake.lower()) if word]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("key", "keys", "tokens"):
        return before in _KEYS_OF
    if last == "pass":  # that over the data is none
        return before in _PASS_OF
    return last in _SECRET_WORDS and not (last == "token" and before in _VOCABULARY)
