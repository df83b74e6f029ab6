"""Changes to valid files that make them broken or hostile.

Everything is drawn from one ``random.Random``, so that its seed repeats a file.
"""

import copy
import json
import math
from random import Random
from typing import Any

import yaml

# stand in for any value of a tree
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(10**400)),
    *(0.0, -0.0, 0.5, 1e-320, 1e30, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *(
        "",
        "x",
        "1e3",
        "nan",
        "1" * 5000,
        "x" * 300,
        "x" * 5000,
        "a/" * 3000,
        "../../outside",
        "/tmp/outside",
        "..",
        "~",
    ),
    *("\x00", "\ud800", "\x1b[2J\x07", "é\u202e", "=1+1", "!!python/object:os.system", "<<", "_BASE_", "%n%s"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"a": {"b": [1, {}]}},
        [0] * 1000,
        [math.nan] * 3,
        [[1, 2], [3]],
        [10**30, 0.5],
    ),
]
_YAML_PIECES = [
    "!!python/object/apply:os.mkdir ['owned']\n",
    "x: !!python/object/new:os.system [touch owned]\n",
    *(
        "!!int ''",
        "!!bool x",
        "!!float ''",
        "!!timestamp x",
        "!!binary '%'",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!null x",
    ),
    *("&a [*a]", "&a {b: *a}", "*undefined", "<<: {SEED: 2}\n", "<<: [1]\n", "? [a, b]\n: c\n", "? {a: b}\n: c\n"),
    *(
        "%YAML 9.9\n---\n",
        "---\n...\n---\n",
        "\t",
        "\ufeff",
        "\x00",
        "'",
        '"',
        "|",
        ">-",
        "#",
        "@",
        "`",
        "{",
        "}",
        "[",
        "]",
    ),
    *(
        "0x" + "f" * 6000,
        "1" + ":59" * 4000,
        "1" * 5000,
        "2024-99-99",
        "9999-12-31T23:59:59+99:99",
        ".nan",
        "-.inf",
        "1_0",
    ),
    *("[" * 3000, "{a: " * 1500, "- " * 3000, "a:\n " * 200, '"\\ud800"', '"\\x00"', '"\\U00110000"'),
]
_JSON_PIECES = [
    *("NaN", "-Infinity", "1e999", "-1e999", "1" * 5000, "-0", "01", "1.", '"\\ud800"', '"\\u0000"', "null", "true"),
    *("[" * 5000, '{"a":' * 5000, "]", "}", ",", ":", '"', "/*", "\ufeff", '"id": 1, "id": 2,', '{"": {"": {}}}'),
]


def change_bytes(random: Random, content: bytes) -> bytes:
    """Flip, set, cut, insert, repeat and swap bytes in one to six places."""
    data = bytearray(content)
    for _ in range(random.randint(1, 6)):
        start = random.randint(0, len(data))
        length = random.choice([1, 1, 2, 4, 8, 64, 1000])
        match random.randint(0, 6):
            case 0 if start < len(data):
                data[start] ^= 1 << random.randint(0, 7)
            case 1:
                data[start : start + length] = random.randbytes(min(length, len(data) - start))
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = random.randbytes(length)
            case 4:
                data[start:start] = data[start : start + length] * random.randint(1, 3)
            case 5:
                data[start : start + length] = random.choice([b"\xff", b"\x00", b"\x7f"]) * min(length, 8)
            case 6 if random.random() < 0.3:
                del data[start:]
    return bytes(data)


def change_text(random: Random, text: str, pieces: list[str]) -> str:
    """Cut, repeat and insert parts of a text in one to three places."""
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(text))
        end = min(len(text), start + random.choice([0, 1, 3, 20]))
        text = text[:start] + random.choice([*pieces, text[start:end] * 2, ""]) + text[end:]
    return text


def _places(tree: Any, found: list[tuple[Any, Any]], depth: int = 0) -> list[tuple[Any, Any]]:
    """Return (container, key) of the values below ``tree``, up to a number and a depth."""
    if isinstance(tree, dict | list) and len(found) < 3000 and depth < 100:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        for key in keys:
            found.append((tree, key))
            _places(tree[key], found, depth + 1)
    return found


def change_tree(random: Random, tree: Any, values: list[Any]) -> Any:
    """Replace, remove, rename, repeat, nest and exchange values of a copied tree in one to three places."""
    root = [copy.deepcopy(tree)]
    for _ in range(random.randint(1, 3)):
        places = _places(root, [])
        container, key = random.choice(places)
        match random.randint(0, 9):
            case 0:
                del container[key]
                if not root:
                    return None
            case 1 if isinstance(container, dict):
                container[random.choice([None, 0, "", "x", "__class__", "a" * 500, 1.5, True])] = container.pop(key)
            case 2:
                container[key] = [container[key]] * random.choice([1, 2, 50])
            case 3 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case 4:
                other, place = random.choice(places)
                if place in other if isinstance(other, dict) else place < len(other):
                    container[key] = copy.deepcopy(other[place])
            case 5:
                for _ in range(random.choice([1, 5, 60])):
                    container[key] = [container[key]]
            case 6 if isinstance(container[key], str):
                container[key] = change_text(random, container[key], ["../", "/", "\x00", "é", "x" * 200])
            case 7 if isinstance(container[key], int | float):
                container[key] = container[key] * random.choice([-1, 0, 10, 1000]) + random.choice([0, 1, 0.5])
            case _:
                container[key] = copy.deepcopy(random.choice(values))
    return root[0]


def _laughs(random: Random) -> str:
    """A few lines of YAML or JSON-like flow that expand to 10 to 10^30 values."""
    width, levels = random.randint(2, 12), random.randint(2, 28)
    merge = random.random() < 0.4
    lines = ["a0: &a0 {k0: 1}" if merge else "a0: &a0 [lol]"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * width)
        lines.append(
            f"a{level}: &a{level} {{<<: [{names}], k{level}: 1}}" if merge else f"a{level}: &a{level} [{names}]"
        )
    return "\n".join(lines) + "\n"


def _hidden_laughs(random: Random, key: str) -> str:
    """The same inside the value of a known key, which the error shows."""
    width, levels = random.randint(2, 12), random.randint(2, 28)
    inner = "&a0 [lol]"
    parts = [inner]
    for level in range(1, levels):
        parts.append(f"&a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return f"{key}: [{', '.join(parts)}]\n"


def yaml_file(random: Random, tree: dict[str, Any], keys: list[str]) -> bytes:
    """Write a tree as YAML, hostile in one way or another."""
    text = yaml.safe_dump(tree, sort_keys=False)
    match random.randint(0, 8):
        case 0:
            return change_bytes(random, text.encode())
        case 8:
            pass
        case 1:
            text = change_text(random, text, _YAML_PIECES)
        case 2:
            text = _laughs(random) + text
        case 3:
            text = text + _hidden_laughs(random, random.choice(keys))
        case 4:
            text = f"{text}{random.choice(keys)}: {random.choice(_YAML_PIECES)}\n"
        case _:
            changed = change_tree(random, tree, [v for v in VALUES if not isinstance(v, int) or abs(v) < 10**300])
            text = yaml.safe_dump(changed, sort_keys=False)
            if random.random() < 0.2:
                text = change_text(random, text, _YAML_PIECES)
    return text.encode("utf-8", "surrogatepass")


def json_file(random: Random, tree: Any) -> bytes:
    """Write a tree as JSON, hostile in one way or another."""
    match random.randint(0, 7):
        case 0:
            return change_bytes(random, json.dumps(tree).encode())
        case 1:
            return change_text(random, json.dumps(tree), _JSON_PIECES).encode("utf-8", "surrogatepass")
        case _:
            return json.dumps(change_tree(random, tree, VALUES)).encode("utf-8", "surrogatepass")
