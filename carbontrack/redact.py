"""Secrets replaced by *** in commands, labels and addresses: by kind of name or shape of value.

A value goes where its name is one of a secret (`--wandb-key`, `HF_TOKEN=`, `?sig=`), or where it
looks like one itself (known prefixes, long random strings). Digests, UUIDs, paths and numbers of
tokens stay: they are what makes a command worth keeping. A word may be a list of variables
(`--export=ALL,HF_TOKEN=…`), a script, code or JSON; all are looked through.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from carbontrack.secret_names import HIDDEN as HIDDEN
from carbontrack.secret_names import SECRET_PLURALS, hidden, is_header, is_secret_name, words_of
from carbontrack.value_ends import NAME, closing_quote, end_of_word, quotes_in

_EXPRESSION = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:environ|getenv)\b")
_CALL = re.compile(r"[A-Za-z_][\w.]*+[(\[]")
_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{16,}|sk-(?=[\w-]{0,64}\d)[\w-]{16,256}|sk-ant-[\w-]{8,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|eyJ[\w-]{8,4096}+\.[\w-]+\.?[\w-]*|npm_[A-Za-z0-9]{20,}"
    r"|pypi-[\w-]{20,}|dop_v1_\w{20,}|SG\.[\w-]{16,}\.?[\w-]*|r8_[A-Za-z0-9]{20,}|nvapi-[\w-]{20,}"
    r"|gsk_[A-Za-z0-9]{20,}|xai-[\w-]{20,}|[rsp]k_(?:live|test)_\w{10,}|tskey-[\w-]{16,}"
    r"|(?<=hooks\.slack\.com/)(?:services|workflows)/[\w/-]+|(?<=/api/webhooks/)\d+/[\w-]+"
    r"|dapi[0-9a-f]{32}|lin_api_\w{20,}|wandb_v1_\w{16,}"
    r")"
)
_RUN = re.compile(r"[A-Za-z0-9+]{20,}")
_DIGEST = re.compile(r"^[0-9a-f]+$|^[0-9A-F]+$")
# A private key, to its end or that of the text.
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL
)
_TELEGRAM = re.compile(r"(?<=api\.telegram\.org/)((?:file/)?bot\d*:)[^/\s?#\"']+")
# scheme://user:password@host; the password may hold @ and /, but what begins as a port is one.
_URL_PASSWORD = re.compile(r"(?<=[a-z+]:/)/?[^:/@]*:(?!\d+/)", re.IGNORECASE)
_UNBROKEN = re.compile(r"[^\s\"']+")
# https://token@host: where only people who have no password put their name.
_URL_TOKEN = re.compile(r"(\bhttps?://)[^:/@\s\"']+@", re.IGNORECASE)
_QUERY = re.compile(r"([?&;])([\w.-]+)=([^&;\s\"']*)")
_SCHEME = re.compile(r"\b(Bearer|Basic)(\s+)(?=\S*\d)[\w.~+/=-]{8,}")
_SCHEMES = {"bearer", "basic", "token", "digest", "apikey"}
# What is between a name and its value: `=`, `:=`, `:STRING=` of CMake, `": "`, `"] = "`, `:-`.
_NAMED = re.compile(
    rf"""(?<![\w.-])({NAME})(\\?["']?\]?\s{{0,9}}(?::[A-Z]+=|(?:[:+?]?=|=>)(?![=~])|:-?)\s{{0,9}})"""
)
# A variable of a list that is one word: --export=ALL,HF_TOKEN=…, user=u,pass=….
_LISTED = re.compile(rf"(?:^|(?<=[=,]))({NAME})(?::[A-Z]+)?[:+?]?=(?!=)")
_SPACE = re.compile(r"\s")
# login("…"), wandb.login(key="…").
_LOGIN = re.compile(r"""(\blogin\((?:[^()]{0,300}?\bkey\s{0,9}=)?\s{0,9})(["'])([^"']*)\2""")
# setdefault("HF_TOKEN", "…"), environ.get("HF_TOKEN", "…"), add_header("Authorization", "…").
_SET = re.compile(
    r"""(\b(?:get|setdefault|\w{0,20}env|add_header|__setitem__|set)\(\s{0,9}["']([\w.-]{1,100})["'],\s{0,9})(["'])([^"']*)\3"""
)
# {"name": "HF_TOKEN", "value": "…"}: a variable in a container's environment.
_ENTRY = re.compile(
    r"""(\bname["']\s{0,9}:\s{0,9}["']([\w.-]{1,100})["'],\s{0,9}["']value["']\s{0,9}:\s{0,9})"""
    r"""(["'])([^"']*)\3"""
)
# The words of a script inside a word, and what is between them.
_INNER = re.compile(
    r"""(?:\\.|\$\([^()]*\)|[^\s"';|&()\\]|"(?:[^"\\]|\\.)*+"|'[^']*')+|[\s;|&()]+|["'\\]""",
    re.DOTALL,
)
_BETWEEN = re.compile(r"[\s;|&()]+")
_ENDS_COMMAND = re.compile(r"[;|&()\n]")
_IS_OPTION = re.compile(r"--(?:[A-Za-z]|$)")
_CODE_FOLLOWS = re.compile(r"^-[a-z]*c$")
# Programs with a short option for a password, and some whose -p is a port or a partition.
_SHORT = {
    "mysql": "p", "mysqldump": "p", "mysqladmin": "p", "mariadb": "p", "sshpass": "p",
    "redis-cli": "a", "ldapsearch": "w", "curl": "uUb", "smbclient": "U", "mongo": "p",
    "mongosh": "p", "mongodump": "p", "mongorestore": "p", "ipmitool": "P", "ssh-keygen": "NP",
    "lftp": "u", "doppler": "t", "login": "p",
}  # fmt: skip
# Of curl, short options without a value, which may stand before one in the same word: -sSLu.
_FLAGS = {"curl": "fgGiIjJklLnNOpqRsSvV#046"}
_LONG = {"curl": ("--user", "--proxy-user")}
_SETTABLE = re.compile(r"\w[\w.-]*")
_FISH_EXPORT = re.compile(r"^-[gUl]*x[gUl]*$")
_NO_PASSWORD_BY_P = {"srun", "sbatch", "salloc", "ssh", "scp", "docker", "podman", "make"}
_MOST_NESTED = 4  # scripts in scripts
_MOST_TIMES = 4  # until nothing changes; twice has been enough


def redact(command: Sequence[str]) -> tuple[str, ...]:
    """The command with every secret that shows by its name or its shape as ***."""
    shown = tuple(command)
    for _ in range(_MOST_TIMES):  # what was hidden may let another be seen: ***=…
        before, shown = shown, _command(shown, 0)
        if shown == before:
            break
    return shown


def redact_label(text: str) -> str:
    """A name, a project or a folder, as `redact` shows a word of a command."""
    return redact([text])[0]


def redact_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags, each as `redact` shows the word KEY=VALUE."""
    return {redact_label(key): redact_label(_value(key, value)) for key, value in tags.items()}


def redact_text(text: str) -> str:
    """A message with the passwords of the addresses in it as ***."""
    text = _TELEGRAM.sub(rf"\1{HIDDEN}", _UNBROKEN.sub(_hide_password, text))
    return _QUERY.sub(_query_value, _URL_TOKEN.sub(rf"\1{HIDDEN}@", text))


def _command(words: Sequence[str], depth: int) -> tuple[str, ...]:
    shown: list[str] = []
    hide_next: str | None = None  # the name whose value comes next
    before = program = ""
    for at, word in enumerate(words):
        if hide_next is not None and not _IS_OPTION.match(word):
            shown.append(_value(hide_next, word, depth))
            # --hf-tokens has several.
            several = shown[-1] == HIDDEN and words_of(hide_next)[-1] in SECRET_PLURALS
            following = words[at + 1 : at + 2]
            if not several or (following and following[0].startswith("-")):
                hide_next = None
        elif _is_operand_secret(words[max(0, at - 3) : at], program, word):
            shown.append(HIDDEN)
        elif option := _password_option(program, word):
            rest = word[len(option) :]
            shown.append(option + (HIDDEN if rest else ""))
            hide_next = None if rest else "password"
        else:
            option = word.rpartition("=")[2]  # --args=--token
            names_secret = option.startswith("-") and is_secret_name(option)
            hide_next = option if names_secret else None
            shown.append(_word(word, before, depth))
        name = word.rpartition("/")[2]
        if name == "login":
            if before and not before.startswith("-"):
                program = "wandb login" if before.rpartition("/")[2] == "wandb" else name
        elif not program or name in _SHORT or name in _NO_PASSWORD_BY_P:
            program = name
        before = word
    return tuple(shown)


def _word(word: str, before: str, depth: int) -> str:
    is_script = any(c.isspace() or c in ";|&" for c in word) and not _is_address(word)
    if not depth and not (is_script and _CODE_FOLLOWS.match(before)):
        word = _hide_listed(word)
    word = _shapes(word)
    return _script(word, depth + 1) if is_script and depth < _MOST_NESTED else word


def _is_address(word: str) -> bool:
    return "://" in "".join(word.split(maxsplit=1)[:1])


def _value(name: str, value: str, depth: int = 0) -> str:
    """The value of an option or variable of this name."""
    shown = hidden(name, value) if is_secret_name(name) else value
    return shown if shown == HIDDEN else _word(shown, "", depth)


def _hide_listed(word: str) -> str:
    """A word that is NAME=VALUE, or a list of them with commas: a secret one's value is hidden up
    to the next, whatever is in it.
    """
    shown, done, secret = [], 0, None
    for match in _LISTED.finditer(word):
        if secret is not None:
            if word[match.start() - 1] != ",":
                continue
            shown.append(hidden(secret[1], word[done : match.start() - 1]))
            done, secret = match.start() - 1, None
        elif _SPACE.search(word, done, match.start()):
            break  # a text, and no list
        shown.append(word[done : match.end()])
        done = match.end()
        if is_secret_name(match[1]):
            secret = match
    shown.append(word[done:] if secret is None else hidden(secret[1], word[done:]))
    return "".join(shown)


def _script(text: str, depth: int) -> str:
    """A script, or a text in quotes, whose words are looked at like those of a command."""
    pieces = _INNER.findall(text)
    shown: list[str] = []
    command: list[str] = []  # the pieces of one, and what is between them

    def end_command() -> None:
        words = [piece for piece in command if not _BETWEEN.fullmatch(piece)]
        inner = iter(_command([_unquoted(word) for word in words], depth))
        for piece in command:
            if _BETWEEN.fullmatch(piece):
                shown.append(piece)
            else:
                new = next(inner)
                shown.append(piece if new == _unquoted(piece) else _quoted_like(piece, new))
        command.clear()

    if sum(not _BETWEEN.fullmatch(piece) for piece in pieces) < 2:
        return text
    for piece in pieces:
        if _BETWEEN.fullmatch(piece) and _ENDS_COMMAND.search(piece):
            end_command()
            shown.append(piece)
        else:
            command.append(piece)
    end_command()
    return "".join(shown)


def _unquoted(word: str) -> str:
    return word[1:-1] if _is_quoted(word) else word


def _is_quoted(word: str) -> bool:
    return len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"


def _quoted_like(word: str, new: str) -> str:
    """The word's new text in its quotes, where it needs any."""
    return f"{word[0]}{new}{word[0]}" if _is_quoted(word) and new != HIDDEN else new


def _shapes(text: str) -> str:
    """What looks like a secret wherever it stands."""
    text = redact_text(_PEM.sub(HIDDEN, text))
    text = _LOGIN.sub(rf"\1\2{HIDDEN}\2", _ENTRY.sub(_set_value, _SET.sub(_set_value, text)))
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", _hide_named(text))
    text = _PREFIXED.sub(HIDDEN, text)
    return _RUN.sub(lambda run: HIDDEN if _is_random(run[0]) else run[0], text)


def _hide_password(match: re.Match[str]) -> str:
    text, end = match[0], match[0].rfind("@")
    begins = _URL_PASSWORD.search(text, 0, end) if end > 0 else None
    if begins is None or begins.end() == end:
        return text
    return text[: begins.end()] + HIDDEN + text[end:]


def _query_value(match: re.Match[str]) -> str:
    before, name, value = match.groups()
    return f"{before}{name}={hidden(name, value) if is_secret_name(name) else value}"


def _set_value(match: re.Match[str]) -> str:
    before, name, quote, value = match.groups()
    return f"{before}{quote}{hidden(name, value) if is_secret_name(name) else value}{quote}"


def _hide_named(text: str) -> str:
    """Fields of a script, of code, JSON, YAML or a header: token="…", {token: …}, Api-Key: …."""
    quotes = quotes_in(text)
    shown, done, at = [], 0, 0
    while match := _NAMED.search(text, at):
        at = match.end()
        name, separator = match.groups()
        if at == len(text) or not is_secret_name(name) or not _is_field(match, text):
            continue
        end = _end_of_value(match, text, quotes)
        value = text[at:end]
        if " =" in separator and _CALL.match(value):
            continue
        if _EXPRESSION.match(value) or hidden(name, value) == value:
            continue
        quote = value[0] if _is_quoted(value) else ""
        shown += [text[done:at], f"{quote}{HIDDEN}{quote}"]
        done = at = end
    return "".join(shown) + text[done:]


def _is_field(match: re.Match[str], text: str) -> bool:
    """Whether the colon after a name is one of a field, and not of a port or an image's tag."""
    name, separator = match.groups()
    if separator != ":" or is_header(name):
        return True
    after = text[match.end()]
    return after in "\"'[{" or (len(words_of(name)) > 1 and not after.isdigit() and after != "/")


def _end_of_value(match: re.Match[str], text: str, quotes: list[tuple[int, str]]) -> int:
    at = match.end()
    quote = quotes[bisect_right(quotes, (at - 1, "~")) - 1][1]
    if is_header(match[1]) and text[at] not in "\"'\\":
        if quote:
            return closing_quote(text, at, quote)
        if not text[: match.start()].strip():
            return len(text)
    end = end_of_word(text, at, quote)
    if text[at:end].lower() in _SCHEMES:
        after = len(text) - len(text[end:].lstrip())
        if end < after < len(text) and text[after] != quote:
            end = end_of_word(text, after, quote)
    return end


def _is_random(run: str) -> bool:
    """Whether letters of both cases and digits change as often as by chance, unlike in names."""
    if _DIGEST.match(run):
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in run]
    if len(set(kinds)) < 3:
        return False
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes >= 0.4 * (len(run) - 1)


def _is_operand_secret(before: Sequence[str], program: str, word: str) -> bool:
    """After `wandb login`, and after the name in csh's `setenv NAME`, fish's `set -x NAME`,
    `aws configure set NAME` and MPI's `-genv NAME`.
    """
    if word.startswith("-") or len(before) < 2:
        return False
    if program == "wandb login":
        return before[-1] not in ("--host", "--base-url")
    *_, first, second = before
    sets = first in ("setenv", "set", "config", "-env", "-genv") or (
        before[0] == "set" and _FISH_EXPORT.match(first) is not None
    )
    return sets and _SETTABLE.fullmatch(second) is not None and is_secret_name(second)


def _password_option(program: str, word: str) -> str:
    """The program's option for a password with which this word begins: -p, -sSLu, --user=; "" if
    with none.
    """
    for long in _LONG.get(program, ()):
        if word == long or word.startswith(f"{long}="):
            return word[: len(long) + 1]
    if len(word) < 2 or word[0] != "-" or word[1] == "-":
        return ""
    if (letters := _SHORT.get(program)) is not None:
        flags = _FLAGS.get(program, "")
        length = 1 + len(word[1:]) - len(word[1:].lstrip(flags)) if flags else 1
        return word[: length + 1] if word[length : length + 1] in [*letters] else ""
    # -pS11 of a program that is not known: no port, partition or word of small letters.
    glued = program not in _NO_PASSWORD_BY_P and word.startswith("-p") and len(word) > 3
    return "-p" if glued and any(map(str.isupper, word)) and any(map(str.isdigit, word)) else ""
