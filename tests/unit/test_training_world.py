"""The demo model's world: reproducible, true, and nothing of the exam in what is trained on."""

import io
import json
import random
import re
import struct
import zipfile
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
cv2 = pytest.importorskip("cv2")

# ruff: noqa: E402 (only where the packages above are installed)
from tests.training_pack import tiny_pack
from training import charts, dialogue, forms, photos, phrases, questions, scenes, several, words
from training.bank import Bank, Stock, stock, training_stock
from training.colours import COLOURS, contrast
from training.drawing import EFFECTS, affected, preprocess, render
from training.exam import outside_questions
from training.judge import FORM, overlap
from training.pack import STYLES, IconSet, find_icon, for_exam, normal_code, slugs
from training.pictograms import ROLES, by_role, pictograms, plain
from training.qrc import resources
from training.shapes import SHAPES
from training.smalltalk import OUTSIDE
from training.wording import NUMBERS, Where, a, join, named, plural
from training.world import Ground, Scene, token_grid

EVERYDAY = (
    "dog", "cat", "bird", "fish", "horse", "cow", "pig", "mouse", "rabbit", "bear", "lion", "tiger",
    "elephant", "monkey", "snake", "tree", "flower", "rose", "sun", "cloud", "rainbow", "snowflake",
    "fire", "banana", "lemon", "pear", "strawberry", "carrot", "tomato", "bread", "pizza", "hamburger",
    "egg", "cookie", "doughnut", "house", "school", "church", "car", "bus", "bicycle", "airplane",
    "rocket", "ship", "key", "hammer", "scissors", "pencil", "umbrella", "clock", "door", "bed",
    "chair", "telephone", "television", "camera", "guitar", "violin", "drum", "bell", "crown", "ring",
    "shoe", "glasses", "hat", "backpack", "envelope", "candle",
)  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def world(pack: Path) -> Stock:
    return training_stock(pack)


def talks(world: Stock, number: int, name: str = "train") -> list[dialogue.Conversation]:
    return [
        dialogue.conversation(name, seed, world, profile)
        for profile in dialogue.PROFILES
        for seed in range(number)
    ]


def test_the_lists_name_enough_and_hold_out_sixty() -> None:
    assert {role: len(by_role(role)) for role in ROLES}["unknown"] == 60
    assert len(by_role("known")) >= 1200
    for thing in pictograms().values():
        assert thing.codes, thing
        assert thing.article in ("", "a", "an", "the"), thing
        assert thing.article != "a" or thing.name[0] not in "aeio" or thing.name.startswith("one-"), thing
        assert thing.accepts(thing.phrase.upper())
    held_out = {plain(n) for p in by_role("unknown") for n in (p.name, *p.synonyms)}
    assert held_out.isdisjoint(EVERYDAY)


def test_no_name_of_a_known_pictogram_is_also_another_ones() -> None:
    names = [plain(p.name) for p in by_role("known")]
    assert len(set(names)) == len(names)
    owners: dict[str, str] = {}
    for thing in by_role("known"):
        for synonym in thing.synonyms:
            assert owners.setdefault(plain(synonym), thing.name) == thing.name


def test_training_meets_no_style_and_no_pictogram_of_the_exam(pack: Path) -> None:
    train, exam = Bank(pack / "train.zip"), Bank(pack / "exam.zip")
    held_out = {p.name for p in by_role("unknown")}
    assert len(train.sprites) > 300
    assert not any(entry.style == "openmoji" or entry.name in held_out for entry in train.sprites)
    assert all(for_exam(entry) for entry in exam.sprites)
    assert held_out & {entry.name for entry in exam.sprites}
    with zipfile.ZipFile(pack / "train.zip") as file:
        assert not any("openmoji" in name for name in file.namelist())


def test_the_photographs_of_the_exam_are_others() -> None:
    text = (Path(photos.__file__).parent / "photos.txt").read_text()
    train, exam = (set(part.split("\n")) for part in text.partition("[train]")[2].split("[exam]"))
    assert len(exam - {""}) >= 200
    assert not (train & exam) - {""}


def test_training_reads_no_question_of_the_exam() -> None:
    asked = outside_questions()
    assert len(asked) == len(set(asked)) == 200
    rng = random.Random(0)
    patterns = [*phrases.PATTERNS["outside"], *phrases.PATTERNS["outside_more"]]
    written = {_letters(phrases.expand(rng, rng.choice(patterns))) for _ in range(5000)}
    assert written.isdisjoint(map(_letters, asked))


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", text.lower()).strip()


def test_same_seed_gives_the_same_conversation_and_pixels(world: Stock) -> None:
    for one, two in zip(talks(world, 6), talks(world, 6), strict=True):
        assert one == two
        for a_scene, b_scene in zip(one.images(), two.images(), strict=True):
            assert np.array_equal(render(a_scene, world), render(b_scene, world))
    assert not {s for t in talks(world, 15) for s in t.images()} & {
        s for t in talks(world, 15, "exam") for s in t.images()
    }


def test_every_picture_has_its_size_and_every_answer_its_words(world: Stock) -> None:
    for talk in talks(world, 15):
        assert len(talk.images()) <= 10
        assert all(len(turn.images) <= 6 or turn.task == "too many" for turn in talk.turns)
        for scene in talk.images():
            pixels = render(scene, world)
            assert pixels.shape == (scene.height, scene.width, 3)
            assert pixels.dtype == np.uint8
            columns, rows = token_grid(scene.width, scene.height)
            assert preprocess(pixels).shape == (32 * rows, 32 * columns, 3)
            assert max(columns, rows) <= 8
        for turn in talk.turns:
            assert turn.answer
            assert "{" not in turn.text
            assert "|" not in turn.text


def test_things_lie_apart_in_the_picture_from_left_to_right(world: Stock) -> None:
    for seed in range(30):
        scene = scenes.some_pictograms(random.Random(seed), world, 6)
        assert scene.things
        assert [t.x for t in scene.things] == sorted(t.x for t in scene.things)
        for i, one in enumerate(scene.things):
            assert min(one.box) >= -0.01
            assert max(one.box) <= 1.01
            for other in scene.things[i + 1 :]:
                assert (one.x - other.x, one.y - other.y) != (0, 0)


@pytest.mark.parametrize("kind", ["shape", "pictogram", "word"])
def test_a_box_is_where_the_pixels_are(world: Stock, kind: str) -> None:
    """Found independently: what differs from the ground."""
    ground = Ground("plain", "white", ((255, 255, 255),))
    checked = 0
    for seed in range(40):
        rng = random.Random(seed)
        if kind == "word":
            scene = words.some_words(rng, world, lines=1, clean=True)
            scene = Scene(scene.width, scene.height, ground, scene.things)
        else:
            thing = (
                scenes.some_shape(rng, ground)
                if kind == "shape"
                else scenes.some_pictogram(rng, world, ground, plain=True)
            )
            scene = scenes.scene_of(rng, world, ground, [thing], (256, 256), clean=True)
        (thing,) = scene.things
        pale = thing.outline or thing.rgb  # what is as pale as the ground can't be found
        if kind != "pictogram" and contrast(pale, (255, 255, 255)) < 40:
            continue
        ys, xs = np.nonzero((render(scene, world).astype(int) < 225).any(2))
        found = (
            xs.min() / scene.width,
            ys.min() / scene.height,
            (xs.max() + 1) / scene.width,
            (ys.max() + 1) / scene.height,
        )
        assert overlap(found, thing.box) > (0.6 if kind == "word" else 0.75), (seed, thing)
        checked += 1
    assert checked > 10


def test_answers_agree_with_what_is_drawn(world: Stock) -> None:
    """Counted and compared anew from the scene's own values."""
    seen = set()
    for seed in range(300):
        rng = random.Random(seed)
        scene = dialogue.some_scene(rng, world)
        asked = questions.about(rng, world, scene, Where("picture"))
        seen.add(asked.task)
        things = scene.things
        if asked.task == "count" and asked.core != "zero":
            total = NUMBERS.index(asked.core)
            assert total in {len(things), *(sum(t.kin == u.kin for u in things) for t in things),
                             *(sum(t.name == u.name for u in things) for t in things)}  # fmt: skip
        if asked.task == "colour":
            assert any(t.colour == asked.core and t.name in asked.answer for t in things)
        if asked.task == "yes or no":
            assert asked.answer.lower().startswith(asked.core)
        if asked.task == "box":
            for box in json.loads(asked.answer):
                match = [t for t in things if forms.rounded(t.box) == box["bbox_2d"]]
                assert match
                assert all(0 <= v <= 1000 for v in box["bbox_2d"])
        if asked.task == "relation" and (m := re.match(r"The (.+) is (bigger|smaller)\.", asked.answer)):
            order = sorted(things, key=lambda t: t.radius, reverse=m[2] == "bigger")
            assert m[1].split()[-1] in order[0].name or len(things) > 2
        if asked.task == "value" and scene.chart:
            label = asked.answer.split(" is about")[0]
            assert float(asked.core) == scene.chart.values[scene.chart.labels.index(label)]
        if asked.task == "read":
            assert all(f'"{t.name}"' in asked.answer for t in things if t.kind == "word")
    assert {"describe", "count", "box", "relation", "value", "read", "colour", "yes or no"} <= seen


def test_forms_say_the_same_and_keep_to_their_form(world: Stock) -> None:
    for seed in range(150):
        scene = dialogue.some_scene(random.Random(seed), world)
        for form in forms.FORMS:
            answer = forms.describe(scene, form)
            if form == "paragraph" and len(scene.things) == 1:
                continue
            plain_text = (
                re.sub(r'"[^"]*"|Mrs?\.|\d\.\d|U\.S\.|St\.', "x", answer)
                if form in ("sentence", "paragraph")
                else answer
            )
            assert FORM[form](plain_text), (form, answer)
        assert len(forms.describe(scene, "alt")) <= forms.ALT_LENGTH
        if scene.kind in ("drawing", "pictogram"):
            held = json.loads(forms.describe(scene, "json"))["things"]
            assert sum(entry["count"] for entry in held) == len(scene.things)


def test_what_changed_is_what_differs(world: Stock) -> None:
    said = set()
    for seed in range(60):
        before, after, answer = several.pair(random.Random(seed), world, clean=True)
        one, two = ({t.kin for t in s.things} for s in (before, after))
        gone, fresh = len(one - two), len(two - one)
        word = answer.removesuffix(".").split()[-1] if "changed" in answer else answer
        said.add((gone, fresh))
        assert {"nothing": (0, 0), "added": (0, 1), "removed": (1, 0)}.get(
            "nothing" if "Nothing" in answer else word.removesuffix(".").split()[-1], (1, 1)
        ) == (gone, fresh), answer
        assert (before.width, before.height, before.ground) == (after.width, after.height, after.ground)
    assert said == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_largest_bar_is_the_tallest_in_pixels(world: Stock) -> None:
    for seed in range(25):
        scene = charts.some_chart(random.Random(seed), world, "bar", clean=True)
        chart = scene.chart
        assert chart is not None
        assert max(chart.values) <= chart.top
        if chart.level or len(set(chart.rgbs)) < len(chart.rgbs):
            continue
        pixels = render(scene, world).astype(int)
        tall = [int((np.abs(pixels - rgb).max(2) < 3).any(1).sum()) for rgb in chart.rgbs]
        assert tall.index(max(tall)) == chart.values.index(max(chart.values))


def test_a_photograph_is_described_by_its_pixels(world: Stock) -> None:
    sky = np.full((60, 100, 3), (37, 99, 235), np.uint8)
    seen = photos.described(photos.Photo("", (0, 0, 1, 1)), sky)
    assert (seen.format, seen.colours, seen.brightness) == ("landscape", ("blue",), "medium")
    for name, anchors in COLOURS.items():
        assert photos.nearest(np.array(anchors, np.uint8)) == [name] * len(anchors)


def test_effects_keep_the_sprite_in_its_frame(world: Stock) -> None:
    sprite = world.bank.sprite(0)
    for effect in EFFECTS:
        for seed in range(4):
            made = affected(sprite, effect, (200, 30, 30), seed)
            assert made.dtype == np.uint8
            assert made.shape[2] == 4
            assert (made[..., :3].max(2) <= made[..., 3]).all(), effect


def test_words_and_names_read_well() -> None:
    ones = ("star", "box", "cross", "berry", "mouse", "face with tongue", "scissors")
    assert " ".join(map(plural, ones)) == "stars boxes crosses berries mice faces with tongue scissors"
    assert a("owl") == "an owl"
    assert join(["a", "b", "c"]) == "a, b and c"
    assert {*SHAPES} & {"star", "ring"}
    assert "outside" in OUTSIDE


def test_a_stock_of_one_style_has_no_other(pack: Path) -> None:
    exam = stock(Bank(pack / "exam.zip"), styles=("openmoji",))
    assert exam.names
    assert {exam.bank.sprites[i].style for sprites in exam.named.values() for i in sprites} == {"openmoji"}
    unknown = stock(
        Bank(pack / "exam.zip"), roles=(), strange=("unknown",), styles=[s for s in STYLES if s != "openmoji"]
    )
    assert not unknown.names
    assert {unknown.bank.sprites[i].role for i in unknown.strange} == {"unknown"}


def test_icons_are_found_by_code_by_name_and_by_the_name_in_one_word(tmp_path: Path) -> None:
    for name, icons, codes in (("one", ["red-apple"], {"1f34e": "red-apple"}), ("two", ["redapple"], {})):
        (tmp_path / name).mkdir()
        body = {icon: {"body": f"<{name}/>", "width": 24} for icon in icons}
        (tmp_path / name / "icons.json").write_text(
            json.dumps(
                {
                    "icons": body,
                    "aliases": {"apple": {"parent": icons[0]}, "turned": {"parent": icons[0], "rotate": 1}},
                }
            )
        )
        if codes:
            (tmp_path / name / "chars.json").write_text(json.dumps(codes))
    sets = {name: IconSet(tmp_path / name) for name in ("one", "two")}
    assert 'viewBox="0 0 24 16"' in str(find_icon(sets["one"], "1F34E-FE0F", slugs(sets)))
    assert "<two/>" in str(find_icon(sets["two"], "1F34E", slugs(sets)))
    assert find_icon(sets["one"], "1F34F", slugs(sets)) is None
    assert "<one/>" in str(sets["one"].svg("apple"))
    assert sets["one"].svg("turned") is None
    assert normal_code("1f34e-fe0f") == "1F34E"


def test_qt_resources_are_read(tmp_path: Path) -> None:
    name = "a.jpg"
    names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHHHIQ", 0, 0, 0, 0, 0, 0)
    data = struct.pack(">I", 5) + b"photo"
    head = 20
    offsets = struct.pack(">4I", 2, head, head + len(tree), head + len(tree) + len(data))
    (tmp_path / "x.rcc").write_bytes(b"qres" + offsets + tree + data + names)
    assert resources(tmp_path / "x.rcc") == {"/a.jpg": b"photo"}
    (tmp_path / "y.rcc").write_bytes(io.BytesIO(b"none").getvalue())
    with pytest.raises(ValueError, match=r"y\.rcc"):
        resources(tmp_path / "y.rcc")


def test_every_section_of_phrases_fills_its_slots() -> None:
    rng = random.Random(0)
    slots = dict.fromkeys(re.findall(r"\{(\w+)\}", str(phrases.PATTERNS)), "x")
    for section, patterns in phrases.PATTERNS.items():
        if section in ("things", "places", "languages", "names", "verbs", "adjectives"):
            continue
        for pattern in patterns:
            text = phrases.expand(rng, pattern, slots)
            assert "|" not in text, (section, pattern)
            assert "(" not in text.replace("(short answer)", ""), (section, pattern)
            assert named([]) == []
