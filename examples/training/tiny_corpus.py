"""What the bundled target is taught: chat in a larger model's words, and small tasks whose answers stand in the prompt and nowhere else.

A model of two million weights that only chats says the same things whatever it is asked, and a drafter then never needs the prompt. So
three quarters of its conversations are quoting (a line, one of several, one out of a long text), telling a card of facts in sentences, and
recalling what was said turns ago.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypedDict


class Message(TypedDict):
    """One turn, as chat templates take it."""

    role: str
    content: str


Talk = list[Message]
TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
CUT = re.compile(r"[^.!?\n]*\Z")
SENTENCE = re.compile(r"[A-Z][^.!?\n]{20,140}[.!?](?=\s|$)")
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kr", "st", "tr")
VOWELS, CODAS = ("a", "e", "i", "o", "u", "ia", "ei"), ("", "", "l", "n", "r", "s", "th", "x")
# fmt: off
PLACES = (
    "Oslo", "Lima", "Cairo", "Kyoto", "Quito", "Dakar", "Porto", "Riga", "Hanoi", "Turin", "Bergen", "Malaga", "Tunis", "Accra", "Davos",
    "Izmir",
)
JOBS = (
    "baker", "pilot", "tailor", "nurse", "painter", "farmer", "teacher", "plumber", "sailor", "gardener", "dentist", "librarian",
    "carpenter", "chemist",
)
PETS = ("cat", "dog", "parrot", "rabbit", "turtle", "hamster", "horse", "goat", "lizard", "pony")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple", "silver", "brown")
THINGS = (
    "key", "code", "word", "number", "name", "colour", "place", "gift", "seat", "ticket", "label", "city", "song", "book", "dish",
)
# fmt: on
AGAIN = ("Repeat this", "Say this again", "Copy this line", "Read this back to me", "Write this once more")
SYSTEMS = ("You are a careful assistant.", "Answer in one sentence.", "You are a helpful clerk who quotes exactly.", "Be brief and polite.")


def turns(text: str) -> Talk:
    """User's and assistant's turns of a conversation in ChatML; a last one that was cut ends with its last whole sentence or line."""
    found = [Message(role=role, content=content.strip()) for role, content in TURN.findall(text) if role != "system"]
    if found and not text.endswith("<|im_end|>"):
        found[-1]["content"] = CUT.sub("", found[-1]["content"]).strip()
    return found if all(turn["content"] for turn in found) and len(found) % 2 == 0 else []


def sentences(talks: Sequence[Talk]) -> list[str]:
    """Whole sentences of 20 to 140 characters out of the assistant's turns, each once."""
    return list(
        dict.fromkeys(
            found for talk in talks for turn in talk if turn["role"] == "assistant" for found in SENTENCE.findall(turn["content"])
        )
    )


def _said(user: str, answer: str) -> Talk:
    return [Message(role="user", content=user), Message(role="assistant", content=answer)]


def _word(draw: random.Random) -> str:
    return "".join(draw.choice(ONSETS) + draw.choice(VOWELS) for _ in range(draw.choice((1, 2, 2)))) + draw.choice(CODAS)


def _number(draw: random.Random) -> str:
    return "".join(draw.choice("0123456789") for _ in range(draw.randint(3, 6)))


def quote(draw: random.Random, lines: Sequence[str]) -> Talk:
    """One or two lines, or a few made-up words, said again."""
    made_up = " ".join(_word(draw) for _ in range(draw.randint(2, 10)))
    text = draw.choice((made_up, draw.choice(lines), " ".join(draw.sample(lines, 2))))
    return _said(f"{draw.choice(AGAIN)}: {text}", text)


def pick(draw: random.Random, lines: Sequence[str]) -> Talk:
    """One line of a numbered list."""
    chosen = draw.sample(lines, draw.randint(2, 4))
    number = draw.randrange(len(chosen))
    listed = "\n".join(f"{place}. {line}" for place, line in enumerate(chosen, 1))
    return _said(f"Read out line {number + 1}.\n{listed}", chosen[number])


def find(draw: random.Random, lines: Sequence[str]) -> Talk:
    """The line of a text that begins with the words asked for."""
    chosen = draw.sample(lines, draw.choice((3, 5, 9, 14)))
    wanted = draw.choice(chosen)
    begin = " ".join(wanted.split()[:3])
    return _said(f"{' '.join(chosen)}\n\nQuote the sentence that begins with: {begin}", wanted)


def card(draw: random.Random, _: Sequence[str]) -> Talk:
    """A card of facts about somebody made up, told in sentences."""
    name, place, job = _word(draw).title(), draw.choice(PLACES), draw.choice(JOBS)
    pet, colour, number = draw.choice(PETS), draw.choice(COLOURS), _number(draw)
    facts = [f"name: {name}", f"home: {place}", f"job: {job}", f"pet: {pet}", f"colour: {colour}", f"number: {number}"]
    told = (
        f"{name} is a {job} from {place}. {name} has a {colour} {pet} and can be reached at number {number}. "
        f"If you are ever in {place}, ask for {name} the {job}."
    )
    draw.shuffle(facts)
    return _said("Tell me about this person.\n" + "\n".join(facts), told)


def recall(draw: random.Random, _: Sequence[str]) -> Talk:
    """Made-up things, told one a turn and asked for at the end."""
    things = draw.sample(THINGS, draw.randint(2, 4))
    values = {thing: f"{_word(draw)} {_word(draw)} {_number(draw)}" for thing in things}
    talk: Talk = []
    for thing, value in values.items():
        talk += _said(f"Remember that the {thing} is {value}.", f"I will remember that the {thing} is {value}.")
    thing = draw.choice(things)
    return talk + _said(f"What was the {thing}?", f"You told me that the {thing} is {values[thing]}.")


Task: TypeAlias = Callable[[random.Random, Sequence[str]], Talk]
TASKS: tuple[Task, ...] = (quote, pick, find, card, recall)
WEIGHTS = (3, 1, 1, 1, 1)  # of the tasks: copying is what the others stand on, and the slowest to be learned
CHAT = 0.25  # share of conversations that are chat


def taught(draw: random.Random, talks: Sequence[Talk], lines: Sequence[str]) -> Talk:
    """One conversation to learn from: chat, or one to three tasks; one in five has a system prompt."""
    if draw.random() < CHAT:
        talk = list(draw.choice(talks))
    else:
        talk = [turn for _ in range(draw.choice((1, 1, 2, 3))) for turn in draw.choices(TASKS, WEIGHTS)[0](draw, lines)]
    system = [Message(role="system", content=draw.choice(SYSTEMS))] if draw.random() < 0.2 else []
    return system + talk
