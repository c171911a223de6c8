"""Which names are of secrets, and which of their values are none: numbers of tokens, references."""

from __future__ import annotations

import re

HIDDEN = "***"
# A name is that of a secret by its last word, …
_SECRET_WORDS = {
    "password", "passwd", "passphrase", "passcode", "pass", "passin", "passout", "pwd", "pw",
    "secret", "token", "credential", "apikey", "auth", "authorization", "bearer", "pat", "cookie",
    "sas", "signature", "sig", "jwt", "otp", "pin",
}  # fmt: skip
# … in the plural, too, …
SECRET_PLURALS = {
    "passwords", "passphrases", "passcodes", "secrets", "tokens", "credentials", "apikeys",
    "cookies", "keys",
}  # fmt: skip
# … before a word (or a number, or v2) that only says which one or in what form, …
_SUFFIXES = {
    "value", "val", "string", "str", "text", "base", "base64", "b64", "hex", "raw", "plain",
    "prod", "production", "dev", "staging", "stage", "live", "test", "ci", "read", "write",
    "readonly", "ro", "rw", "new", "old", "main", "default", "primary", "secondary",
}  # fmt: skip
# … or by what it ends in where words are run together: PGPASSWORD, hftoken.
_SECRET_ENDINGS = ("password", "passwd", "passphrase", "apikey", "secretkey", "accesskey", "secret")
_TOKEN_OWNERS = {"bearer", "gh", "id", "refresh", "my", "bot"}
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
    "boi", "eoi", "latent", "memory", "register", "visual", "think", "added", "extra", "control",
    "reserved", "bad", "suppress", "forced", "begin", "input", "output", "prompt", "total",
}  # fmt: skip
_PLAIN_VALUES = {
    "", "true", "false", "yes", "no", "none", "null", "on", "off", "0", "1", "basic", "str",
}  # fmt: skip
_PATH = re.compile(r"^(~|\.{0,2})/|^[\w-]+\.(pem|key|pub|json|ya?ml|txt|env|crt)$")
# 2T, 1e12, -1, 4_096, 1k,2k: of tokens a number, of passes a small one.
_NUMBER = r"[-+]?\d[\d_.]*+(?:e[-+]?\d+)?[kmgbtp]?"
_NUMBERS = re.compile(rf"[\[(]?{_NUMBER}(?:[,:x/-] ?{_NUMBER})*[\])]?", re.IGNORECASE)
# Of tokens also <|im_end|>, and of the bare word a column or what is found out: text, auto.
_MARKS = re.compile(r"<[^<>\s]{1,24}>(?:, ?<[^<>\s]{1,24}>)*")
_PLAIN_WORD = re.compile(r"[a-z_.]+")
_SMALL_NUMBER = re.compile(r"\d{1,2}")
# Where a value comes from: $NAME, ${oc.env:NAME}, $(cat FILE), <your-token>, os.environ["NAME"].
_REFERENCE = re.compile(
    r"\$[A-Z_][A-Z0-9_]*|\$\{\{?[\w.: ]+\}?\}|</?[A-Za-z_| -]+>|\$\((?:cat|<) ?[\w./~-]+\)"
    r"|(?:[A-Za-z_]\w*\.)*(?:environ|getenv)(?:\.get)?(?:\[[\"']?\w+[\"']?\])?"
)
_DEFINES = re.compile(r"^-(?:D|e(?=[A-Z]))")  # -DHF_TOKEN=, -eHF_TOKEN=


def is_secret_name(name: str) -> bool:
    """Whether what an option, a variable or a field of this name holds is a secret."""
    words = words_of(name)
    if not words or name in ("PWD", "OLDPWD", "--cwd"):
        return False
    *before, last = words
    if last in SECRET_PLURALS:
        last = last.removesuffix("s")
    if last in ("token", "pass", "pin", "sig", "pw") and before and before[-1] in _PLAIN_TOKENS:
        return False
    if last == "key":
        return bool(before) and before[-1] in _KEY_OWNERS
    if last == "id":
        return before[-2:] == ["access", "key"]
    return last in _SECRET_WORDS or last.endswith(_SECRET_ENDINGS) or _is_glued(last)


def words_of(name: str) -> list[str]:
    """--wandbApiKey, WANDB_API_KEY, wandb.api-key and wandb_api_key_v2: wandb, api, key."""
    name = _DEFINES.sub("", name).strip("-+~#@\"'")
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = [word for word in re.split(r"[-_.]+", apart.lower()) if word]
    while len(words) > 1 and (words[-1] in _SUFFIXES or re.fullmatch(r"v?\d+", words[-1])):
        words.pop()
    return [*words[:-1], words[-1].rstrip("0123456789") or words[-1]] if words else []


def is_header(name: str) -> bool:
    """Whether it is that of an HTTP header, whose value goes on to the end of its line."""
    words = words_of(name)
    return words[-1:] in (["authorization"], ["cookie"]) or words[:1] == ["x"]


def hidden(name: str, value: str) -> str:
    """The value of a secret's name as ***; as it is where it can be none."""
    bare = value.strip("\\\"'")
    if bare.lower() in _PLAIN_VALUES or _REFERENCE.fullmatch(bare):
        return value
    *_, last = words_of(name) or [""]
    if last in ("key", "keys", "tokens") and _PATH.match(bare):
        return value
    if last.startswith("token") and (_NUMBERS.fullmatch(bare) or _MARKS.fullmatch(bare)):
        return value
    if words_of(name) == ["tokens"] and _PLAIN_WORD.fullmatch(bare):
        return value
    if last == "pass" and _SMALL_NUMBER.fullmatch(bare):
        return value
    return HIDDEN


def _is_glued(word: str) -> bool:
    word = word.removesuffix("s")
    token, key = word.removesuffix("token"), word.removesuffix("key")
    return (token != word and token in _TOKEN_OWNERS | _KEY_OWNERS) or (
        key != word and key in _KEY_OWNERS
    )
