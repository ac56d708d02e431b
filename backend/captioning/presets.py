"""What is asked of a picture: ready prompts, their placeholders, and how answers are tidied up."""

import re
from dataclasses import dataclass

from backend.captioning.values import JobSpec

ALT_CHARS = 125  # what screen readers say in one go (WebAIM and others advise no more)
TEMPERATURE = 0.2  # descriptions, not stories
MAX_EXISTING_CHARS = 4000  # of an old caption that goes into a prompt
_PLACEHOLDER = re.compile(r"\{(filename|existing|trigger)\}")


@dataclass(frozen=True, slots=True)
class Preset:
    """``title`` and ``hint`` are for people; ``separator`` stands between an old caption and a new one."""

    id: str
    title: str
    hint: str
    prompt: str
    max_tokens: int = 300
    separator: str = "\n"


PRESETS = (
    Preset(
        "sentence", "One sentence", "What is seen, in short.", "Describe this image in one sentence.", 120
    ),
    Preset(
        "detailed",
        "Detailed description",
        "A paragraph: what is there, where, in which colours.",
        "Describe this image in detail: what is there, where it is, its colours and the mood. One paragraph.",
        500,
    ),
    Preset(
        "alt",
        "Alt text",
        f"For screen readers and web pages, at most {ALT_CHARS} characters.",
        f"Write an alt text for this image, for people who cannot see it: at most {ALT_CHARS} characters, "
        "without “image of”. Answer with the alt text only.",
        80,
    ),
    Preset(
        "tags",
        "Tags",
        "Words to find the picture by, with commas between.",
        "List 5 to 15 tags for this image, in lower case, separated by commas. Answer with the tags only.",
        120,
        ", ",
    ),
    Preset(
        "ocr",
        "Text in the picture",
        "Reads out what is written there.",
        "Transcribe all text in this image exactly as it is written, line by line. Answer with the text "
        "only. If there is none, answer “(no text)”.",
        1500,
    ),
    Preset(
        "training",
        "Training caption",
        "For training a model on these pictures; begins with a word of yours.",
        "Describe this image for training an image model, in one sentence: subject, setting, colours, style.",
        150,
        ", ",
    ),
    Preset(
        "product",
        "Product description",
        "Two or three sentences for a shop.",
        "Write a product description of what this image shows, for an online shop: two or three sentences on "
        "what it is, its look and material. Name no price and no brand that is not to be seen.",
        250,
    ),
    Preset(
        "fields",
        "Fields of a table",
        "You name the columns, the model fills them in.",
        "Look at this image and fill in the fields.",
        400,
    ),
)
OWN = Preset("own", "My own words", "Ask whatever you like of each picture.", "", 500)
LANGUAGES = (
    *("English", "German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Polish", "Turkish"),
    *("Russian", "Ukrainian", "Arabic", "Hindi", "Chinese", "Japanese", "Korean"),
)


def find_preset(preset_id: str) -> Preset:
    """The preset of this id, or the one for own words."""
    return next((preset for preset in PRESETS if preset.id == preset_id), OWN)


def render_prompt(spec: JobSpec, filename: str, existing: str) -> str:
    """The prompt for one picture. Braces that name no placeholder stay, as JSON in a prompt has them."""
    values = {"filename": filename, "existing": existing[:MAX_EXISTING_CHARS], "trigger": spec.trigger}
    prompt = _PLACEHOLDER.sub(lambda found: values[found[1]], spec.prompt)
    if spec.schema:
        prompt += f"\n\nAnswer with one JSON object of this JSON schema, and nothing else:\n{spec.schema}"
    if spec.language:
        prompt += f"\n\nWrite in {spec.language}."
    return prompt


def tidy(spec: JobSpec, answer: str) -> str:
    """The answer as the preset promises it."""
    text = answer.strip()
    match spec.preset:
        case "alt":
            return shorten(" ".join(text.strip('"“”').split()), ALT_CHARS)
        case "tags":
            words = (word.strip(' .#*-\t"“”') for word in re.split(r"[,;\n]", text))
            return ", ".join(dict.fromkeys(word for word in words if word))
        case "training":
            caption = " ".join(text.split())
            begins = caption.lower().startswith(spec.trigger.lower())
            return caption if begins else f"{spec.trigger}, {caption}" if caption else spec.trigger
    return text


def shorten(text: str, most: int) -> str:
    """At most so many characters: whole sentences where at least half of that is left, else whole words."""
    if len(text) <= most:
        return text
    sentences = text[:most].rpartition(". ")[0]
    if len(sentences) >= most // 2:
        return f"{sentences}."
    return f"{text[: most - 1].rpartition(' ')[0] or text[: most - 1]}…"
