"""Secrets replaced by *** in commands and addresses: by kind of name, and by shape of value.

A value goes where its name is one of a secret (`--wandb-key`, `HF_TOKEN=`, `?sig=`), or where it
looks like one itself (known prefixes, long random strings). Digests, UUIDs, paths and numbers of
tokens stay: they are what makes a command worth keeping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

HIDDEN = "***"

# A name is that of a secret by its last word, …
_SECRET_WORDS = {
    "password", "passwd", "passphrase", "passcode", "pass", "pwd", "pw", "secret", "secrets",
    "token", "credential", "credentials", "apikey", "auth", "authorization", "bearer", "pat",
    "cookie", "sas", "signature", "sig", "jwt", "otp", "pin",
}  # fmt: skip
# … or by what it ends in where words are run together: PGPASSWORD, hftoken.
_SECRET_ENDINGS = ("password", "passwd", "passphrase", "apikey", "secretkey", "accesskey", "secret")
_GLUED_TOKEN = re.compile(r"^(access|api|auth|bearer|gh|hf|github|gitlab|id|refresh|my)token$")
# A key is secret behind one of these; --sort-key, --image-key and --key-dim are not.
_KEY_OWNERS = {
    "api", "access", "secret", "private", "auth", "account", "storage", "encryption", "ssh", "gpg",
    "pgp", "signing", "master", "service", "subscription", "shared", "deploy", "license", "webhook",
    "session", "client", "app", "admin", "wandb", "openai", "anthropic", "hf", "huggingface",
    "aws", "azure", "gcp", "google", "kaggle", "comet", "neptune", "clearml", "mlflow", "mistral",
    "cohere", "groq", "together", "replicate", "nvidia", "ngc", "azureml", "databricks", "github",
    "gitlab", "slack", "stripe", "tls", "ssl", "rsa", "langchain", "langsmith", "tailscale",
}  # fmt: skip
# A token of a tokenizer, or a number of them, is not a secret.
_PLAIN_TOKENS = {
    "pad", "padding", "eos", "bos", "unk", "mask", "cls", "sep", "image", "video", "audio",
    "special", "start", "end", "stop", "next", "per", "additional", "prefix", "suffix", "system",
    "user", "assistant", "tool", "max", "min", "num", "n", "new", "first", "last", "each", "every",
    "by", "trigger", "placeholder", "instance", "class", "eot", "fim", "newline", "separator",
    "boi", "eoi", "latent", "memory", "register", "visual", "think",
}  # fmt: skip
_PLAIN_VALUES = {"", "true", "false", "yes", "no", "none", "null", "on", "off", "0", "1", "basic"}
_PATH = re.compile(r"^(~|\.{0,2})/|^[\w-]+\.(pem|key|pub|json|ya?ml|txt|env|crt)$")

_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{16,}|sk-(?=[\w-]{0,64}\d)[\w-]{16,256}|sk-ant-[\w-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]+\.?[\w-]*|npm_[A-Za-z0-9]{20,}"
    r"|pypi-[\w-]{20,}|dop_v1_\w{20,}|SG\.[\w-]{16,}\.?[\w-]*|r8_[A-Za-z0-9]{20,}|nvapi-[\w-]{20,}"
    r"|gsk_[A-Za-z0-9]{20,}|xai-[\w-]{20,}|[rsp]k_(?:live|test)_\w{10,}|tskey-[\w-]{16,}"
    r"|(?<=hooks\.slack\.com/)(?:services|workflows)/[\w/-]+|(?<=/api/webhooks/)\d+/[\w-]+"
    r"|dapi[0-9a-f]{32}|lin_api_\w{20,}|wandb_v1_\w{16,}"
    r")"
)
_RUN = re.compile(r"[A-Za-z0-9+]{20,}")
_DIGEST = re.compile(r"^[0-9a-f]+$|^[0-9A-F]+$")

# scheme://user:password@host; the password may hold @ and /, but what begins as a port is one.
_URL_PASSWORD = re.compile(
    r"(?<=[a-z+]:/)(/?[^:/@\s\"']*:)(?!\d+/)[^\s\"']{1,4096}@", re.IGNORECASE
)
# https://token@host: where only people who have no password put their name.
_URL_TOKEN = re.compile(r"(\bhttps?://)[^:/@\s\"']+@", re.IGNORECASE)
_QUERY = re.compile(r"([?&;])([\w.-]+)=([^&;\s\"']*)")
_PAIR = re.compile(r"""(["'])([\w.-]+)\1(\s*:\s*)(["'])(.*?)\4""")
# In code and its like: os.environ["HF_TOKEN"] = "…", login(token="…"); {token: …}, Api-Key: ….
_ASSIGNED = re.compile(
    r"""(?<![\w.-])([A-Za-z_][\w.-]{0,99})(["']?\]?\s{0,9}=\s{0,9})(["'])(.*?)\3"""
)
_FIELD = re.compile(r"""(?<![\w.-])([A-Za-z_][\w.-]{0,99})(:\s{1,9})([^\s,;{}"'\[\]]+)""")
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|cookie|x-[\w-]*(?:key|token|auth|secret))(\s*[:=]\s*)\S.*",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(Bearer|Basic)(\s+)(?=\S*\d)[\w.~+/=-]{8,}")
# The words of a script inside a word, and what is between them.
_INNER = re.compile(r"""(?:[^\s"';|&()]|"[^"]*"|'[^']*')+|[\s;|&()]+|["']""")
_OPTION = re.compile(r"^(-{1,2}[A-Za-z][\w.-]*|[+~#@]{0,2}[A-Za-z_][\w.-]*)(=)", re.ASCII)

_CODE_FOLLOWS = re.compile(r"^-[a-z]*c$")

# Programs with a short option for a password, and some whose -p is a port or a partition.
_SHORT = {
    "mysql": "p", "mysqldump": "p", "mysqladmin": "p", "mariadb": "p", "sshpass": "p",
    "redis-cli": "a", "ldapsearch": "w", "curl": "u", "smbclient": "U",
}  # fmt: skip
_FISH_EXPORT = re.compile(r"^-[gUl]*x[gUl]*$")
_NO_PASSWORD_BY_P = {"srun", "sbatch", "salloc", "ssh", "scp", "docker", "podman", "make"}


def redact(command: Sequence[str]) -> tuple[str, ...]:
    """The command with every secret that shows by its name or its shape as ***."""
    shown: list[str] = []
    hide_next: str | None = None  # the name whose value comes next
    before = program = ""
    words = list(command)
    for at, word in enumerate(words):
        if hide_next is not None and not word.startswith("--"):
            shown.append(_value(hide_next, word))
            hide_next = None
        elif _is_operand_secret(words[max(0, at - 3) : at], word):
            shown.append(HIDDEN)
        elif _is_short_secret(program, word):
            shown.append(f"{word[:2]}{HIDDEN}" if len(word) > 2 else word)
            hide_next = "password" if len(word) == 2 else None
        else:
            names_secret = word.startswith("-") and "=" not in word and _is_secret_name(word)
            hide_next = word if names_secret else None
            shown.append(_word(word, before))
        before = word
        name = word.rpartition("/")[2]
        if not program or name in _SHORT or name in _NO_PASSWORD_BY_P:
            program = name
    return tuple(shown)


def redact_text(text: str) -> str:
    """A message with the passwords of the addresses in it as ***."""
    return _QUERY.sub(_query_value, _URL_TOKEN.sub(rf"\1{HIDDEN}@", _hide_passwords(text)))


def _word(word: str, before: str) -> str:
    option = _OPTION.match(word)
    is_script = any(c.isspace() or c in ";|&" for c in word) and not _is_address(word)
    if option and _is_secret_name(option[1]) and not (is_script and _CODE_FOLLOWS.match(before)):
        return option[0] + _hide(option[1], word[option.end() :])
    return _shapes(_script(word) if is_script else word)


def _is_address(word: str) -> bool:
    return "://" in "".join(word.split(maxsplit=1)[:1])


def _value(name: str, value: str) -> str:
    """The value of an option or variable of this name."""
    return _hide(name, value) if _is_secret_name(name) else _shapes(value)


def _hide(name: str, value: str) -> str:
    bare = value.strip("\"'")
    if bare.lower() in _PLAIN_VALUES or bare.startswith(("$", "<")):
        return value
    if _words_of(name)[-1:] == ["key"] and _PATH.match(bare):
        return value
    return HIDDEN


def _script(text: str) -> str:
    """A script, or a text in quotes, whose words are looked at like those of a command."""
    text = _HEADER.sub(rf"\1\2{HIDDEN}", _SCHEME.sub(rf"\1\2{HIDDEN}", text))
    pieces = _INNER.findall(text)
    words = [piece for piece in pieces if not re.fullmatch(r"[\s;|&()]+", piece)]
    if len(words) < 2:
        return text
    inner = iter(redact([_unquoted(word) for word in words]))
    shown = []
    for piece in pieces:
        if re.fullmatch(r"[\s;|&()]+", piece):
            shown.append(piece)
            continue
        new = next(inner)
        shown.append(piece if new == _unquoted(piece) else new)
    return "".join(shown)


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return word[1:-1]
    return word


def _shapes(text: str) -> str:
    """What looks like a secret wherever it stands."""
    text = redact_text(text)
    text = _PAIR.sub(_pair_value, text)
    text = _ASSIGNED.sub(_assigned_value, _FIELD.sub(_field_value, text))
    text = _HEADER.sub(rf"\1\2{HIDDEN}", _SCHEME.sub(rf"\1\2{HIDDEN}", text))
    text = _PREFIXED.sub(HIDDEN, text)
    return _RUN.sub(lambda run: HIDDEN if _is_random(run[0]) else run[0], text)


def _hide_passwords(text: str) -> str:
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)


def _query_value(match: re.Match[str]) -> str:
    before, name, value = match.groups()
    return f"{before}{name}={_hide(name, value) if _is_secret_name(name) else value}"


def _pair_value(match: re.Match[str]) -> str:
    quote, name, colon, value_quote, value = match.groups()
    shown = _hide(name, value) if _is_secret_name(name) else value
    return f"{quote}{name}{quote}{colon}{value_quote}{shown}{value_quote}"


def _assigned_value(match: re.Match[str]) -> str:
    name, equals, quote, value = match.groups()
    return f"{name}{equals}{quote}{_hide(name, value) if _is_secret_name(name) else value}{quote}"


def _field_value(match: re.Match[str]) -> str:
    name, colon, value = match.groups()
    return f"{name}{colon}{_hide(name, value) if _is_secret_name(name) else value}"


def _is_secret_name(name: str) -> bool:
    words = _words_of(name)
    if not words or name in ("PWD", "OLDPWD", "--cwd"):
        return False
    *before, last = words
    if last in ("token", "pass", "pin", "sig", "pw") and before and before[-1] in _PLAIN_TOKENS:
        return False
    if last == "key":
        return bool(before) and before[-1] in _KEY_OWNERS
    if last == "id":
        return before[-2:] == ["access", "key"]
    glued = last.endswith(_SECRET_ENDINGS) or _GLUED_TOKEN.match(last) is not None
    return last in _SECRET_WORDS or glued


def _words_of(name: str) -> list[str]:
    """--wandbApiKey, WANDB_API_KEY and wandb.api-key: wandb, api, key."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-+~\"'"))
    return [word for word in re.split(r"[-_.]+", apart.lower()) if word]


def _is_random(run: str) -> bool:
    """Whether letters of both cases and digits change as often as by chance, unlike in names."""
    if _DIGEST.match(run):
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in run]
    if len(set(kinds)) < 3:
        return False
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes >= 0.4 * (len(run) - 1)


def _is_operand_secret(before: Sequence[str], word: str) -> bool:
    """After `wandb login`, and after the name in csh's `setenv NAME` and fish's `set -x NAME`."""
    if word.startswith("-") or len(before) < 2:
        return False
    *_, first, second = before
    if second == "login" and first.rpartition("/")[2] == "wandb":
        return True
    sets = first == "setenv" or (before[0] == "set" and _FISH_EXPORT.match(first) is not None)
    return sets and _is_secret_name(second)


def _is_short_secret(program: str, word: str) -> bool:
    if len(word) < 2 or word[0] != "-" or word[1] == "-":
        return False
    if (letters := _SHORT.get(program)) is not None:
        return word[1] in letters
    # -pS11 of a program that is not known: no port, partition or word of small letters.
    glued = program not in _NO_PASSWORD_BY_P and word.startswith("-p") and len(word) > 3
    return glued and any(map(str.isupper, word)) and any(map(str.isdigit, word))
