"""The browser application in a real Chromium: its answers are Keras's, however an image comes."""

import re
import struct

import numpy as np
import pytest
from PIL import Image

from tests.run.browser_page import (
    RUNTIMES,
    assert_same,
    choose_runtime,
    data_url,
    encoded,
    give_file,
    infer,
    predict,
    results,
    settled,
    top_five,
)
from tests.run.conftest import CLASS_NAMES, SHORT_SIDE, SIZE


@pytest.mark.parametrize(
    "runtime",
    [
        # Drawn in software, which takes this one half a minute.
        pytest.param(name, marks=pytest.mark.slow) if name == "tfjs-webgpu" else name
        for name in RUNTIMES
    ],
)
def test_every_runtime_gives_keras_probabilities(page, exported, runtime):
    """Every runtime that works without a graphics processor, on scanned digits."""
    samples = exported.samples[:6]
    files = exported.index()[0]["files"]
    urls = [f"/samples/{path.name}" for path in samples]
    model = files["tflite" if runtime.startswith("litert") else "tfjs"]
    ran, probabilities = infer(page, f"/{model}", runtime, urls)
    wanted = exported.keras_probabilities(samples)
    assert ran == runtime
    assert len(set(wanted.argmax(1))) > 2, "the images must tell the classes apart"
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)
    assert (probabilities.argmax(1) == wanted.argmax(1)).all()


_TRY = """async ([model, runtime, image]) => {
  const { load } = await import("/infer.js");
  const loaded = await load(model, { runtime });
  const found = await loaded.probabilities(await (await fetch(image)).blob());
  const { threads, precision } = loaded;
  const rejected = loaded.rejected.map((one) => one.runtime);
  return [loaded.runtime, threads, precision, rejected, Array.from(found)];
}"""


def test_a_list_of_ways_is_tried_in_order(page, exported):
    page.goto("/models.json")
    model = f"/{exported.index()[0]['files']['tflite']}"
    ways = [{"runtime": "tfjs-wasm"}, {"runtime": "litert-wasm", "threads": 1}]
    found = page.evaluate(_TRY, [model, ways, "/samples/00.png"])
    assert found[:4] == ["litert-wasm", 1, None, ["tfjs-wasm"]], "it has no file for the first"
    wanted = exported.keras_probabilities(exported.samples[:1])[0]
    np.testing.assert_allclose(found[4], wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "difference"), [("fp32", 1e-3), ("fp16", 1e-2)])
def test_webgpu_computes_in_the_precision_that_is_asked_for(page, exported, precision, difference):
    """Drawn in software; a model that WebGPU does not take so is refused, not answered wrongly."""
    page.goto("/models.json")
    model = f"/{exported.index()[0]['files']['tflite']}"
    ways = [{"runtime": "litert-webgpu", "precision": precision}]
    found = page.evaluate(_TRY, [model, ways, "/samples/00.png"])
    assert found[:3] == ["litert-webgpu", 0, precision]
    wanted = exported.keras_probabilities(exported.samples[:1])[0]
    np.testing.assert_allclose(found[4], wanted, atol=difference)


def test_photographs_are_prepared_like_in_evaluation(page, exported, capsys):
    """At most 2% of the classes may differ; decoders differ by single levels."""
    photos = exported.photos
    urls = [data_url(path.read_bytes(), "image/jpeg") for path in photos]
    model = exported.index()[0]["files"]["tflite"]
    _, probabilities = infer(page, f"/{model}", "litert-wasm", urls)
    wanted = exported.keras_probabilities(photos)
    different = np.mean(probabilities.argmax(1) != wanted.argmax(1))
    worst = np.abs(probabilities - wanted).max()
    with capsys.disabled():
        print(
            f"\n{len(photos)} photographs: class differs on {100 * different:.1f}%, "
            f"largest difference of a probability {worst:.2e}"
        )
    assert different <= 0.02
    assert worst < 0.05


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(50, 70), (301, 97), (64, 64), (33, 500)])
def test_resize_and_crop_equal_tensorflow(page, shape, interpolation):
    import tensorflow as tf

    from mobilevit_keras.data import evaluation_transform

    generator = np.random.default_rng(sum(shape))
    pixels = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    contents = encoded(Image.fromarray(pixels))
    wanted = evaluation_transform(tf.constant(contents), SHORT_SIDE, SIZE, interpolation) * 255.0
    page.goto("/models.json")
    result = page.evaluate(
        """async ([url, shortSide, size, interpolation]) => {
          const { preprocess } = await import("/infer.js");
          const bitmap = await createImageBitmap(await (await fetch(url)).blob());
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          const context = canvas.getContext("2d");
          context.drawImage(bitmap, 0, 0);
          const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
          const options = { short_side: shortSide, crop_size: size, interpolation };
          return Array.from(preprocess(pixels, options));
        }""",
        [data_url(contents), SHORT_SIDE, SIZE, interpolation],
    )
    result = np.array(result).reshape(SIZE, SIZE, 3)
    np.testing.assert_allclose(result, wanted, atol=2e-2)


def with_alpha(photo: Image.Image, *values: int) -> bytes:
    """A PNG whose opacity takes these values in stripes; its colours are the photograph's."""
    alpha = Image.new("L", photo.size)
    for column in range(photo.width):
        alpha.paste(values[column % len(values)], (column, 0, column + 1, photo.height))
    image = photo.copy()
    image.putalpha(alpha)
    return encoded(image)


def exchanging_profile() -> bytes:
    """An ICC profile whose red is blue: what heeds it exchanges an image's colours."""

    def fixed(*numbers: float) -> bytes:
        return struct.pack(f">{len(numbers)}i", *(round(65536 * number) for number in numbers))

    # The matrix of sRGB by columns, blue's first.
    primaries = ((0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4361, 0.2225, 0.0139))
    name = b"exchanged\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
    }
    for letter, column in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[bytes([letter]) + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, contents in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(contents))
        body += contents + bytes(-len(contents) % 4)
    header = struct.pack(">I4sI", start + len(body), b"", 0x02100000) + b"mntrRGB XYZ "
    header += (
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    )
    return header.ljust(128, b"\0") + table + body


def unusual_images(photo: Image.Image) -> dict[str, tuple[str, bytes, str]]:
    """Files that need care when they are decoded, by name: suffix, contents, MIME type."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [photo.rotate(90 * turn) for turn in range(3)]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    opacities = {
        f"opacity {value}": (".png", with_alpha(photo, value), "image/png")
        for value in (0, 1, 128, 254, 255)
    }
    return opacities | {
        "opacities": (".png", with_alpha(photo, 0, 1, 128, 254, 255), "image/png"),
        "icc": (
            ".jpg",
            encoded(photo, "JPEG", quality=95, icc_profile=exchanging_profile()),
            "image/jpeg",
        ),
        "rotated": (".jpg", encoded(photo, "JPEG", quality=95, exif=exif), "image/jpeg"),
        "cmyk": (".jpg", encoded(photo.convert("CMYK"), "JPEG", quality=95), "image/jpeg"),
        "grey": (".jpg", encoded(photo.convert("L"), "JPEG", quality=95), "image/jpeg"),
        "palette": (".png", encoded(photo.convert("P")), "image/png"),
        "animated": (".gif", animation, "image/gif"),
        "bmp": (".bmp", encoded(photo, "BMP"), "image/bmp"),
    }


def test_unusual_images_are_decoded_like_in_evaluation(page, exported, tmp_path):
    with Image.open(exported.run_dir / "photos" / "flower.jpg") as photo:
        images = unusual_images(photo.resize((240, 160)))
    paths, urls = [], []
    for name, (suffix, contents, mime) in images.items():
        paths.append(tmp_path / f"{name}{suffix}")
        paths[-1].write_bytes(contents)
        urls.append(data_url(contents, mime))
    model = exported.index()[0]["files"]["tflite"]
    _, probabilities = infer(page, f"/{model}", "litert-wasm", urls)
    wanted = exported.keras_probabilities(paths)
    difference = dict(zip(images, np.abs(probabilities - wanted).max(1), strict=True))
    # The two decoders turn CMYK into RGB by different formulas.
    difference.pop("cmyk")
    assert max(difference.values()) < 2e-2, difference
    assert (probabilities.argmax(1) == wanted.argmax(1)).all()


@pytest.mark.parametrize("width", [1, 2048, 2049])
def test_colours_under_transparent_pixels_are_read_as_stored(page, width):
    """Also where an image is larger than what a graphics processor is given at once."""
    generator = np.random.default_rng(width)
    pixels = generator.integers(0, 256, (3, width, 4), dtype=np.uint8)
    pixels[0, 0, 3] = 0
    page.goto("/models.json")
    found = page.evaluate(
        """async (url) => {
          const { pixelsOf, BITMAP_OPTIONS } = await import("/infer.js");
          const blob = await (await fetch(url)).blob();
          const bitmap = await createImageBitmap(blob, BITMAP_OPTIONS);
          return [
            Array.from((await pixelsOf(blob)).data),
            Array.from((await pixelsOf(bitmap)).data),
          ];
        }""",
        data_url(encoded(Image.fromarray(pixels))),
    )
    for data in found:
        np.testing.assert_array_equal(np.array(data).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("opacity", [255, 254])
def test_a_large_image_is_never_a_whole_canvas(page, opacity):
    """Phones have none of its size, and it would be a third copy."""
    pixels = np.full((2500, 3000, 4), opacity, np.uint8)
    pixels[..., 0] = np.arange(2500)[:, None] % 251
    pixels[..., 1] = np.arange(3000)[None] % 241
    page.goto("/models.json")
    largest, found = page.evaluate(
        """async (url) => {
          const { pixelsOf } = await import("/infer.js");
          const blob = await (await fetch(url)).blob();
          let largest = 0;
          const Whole = OffscreenCanvas;
          self.OffscreenCanvas = function (width, height) {
            largest = Math.max(largest, width * height);
            return new Whole(width, height);
          };
          const { data, width } = await pixelsOf(blob);
          const places = [[0, 0], [1397, 2999], [1398, 7], [2499, 2999], [2047, 2048]];
          const pixel = ([y, x]) => Array.from(data.subarray(4 * (y * width + x)).subarray(0, 4));
          return [largest, places.map(pixel)];
        }""",
        data_url(encoded(Image.fromarray(pixels), compress_level=1)),
    )
    assert largest <= 2048**2
    places = ((0, 0), (1397, 2999), (1398, 7), (2499, 2999), (2047, 2048))
    assert found == [pixels[place].tolist() for place in places]


def test_a_chosen_image_shows_the_five_best_and_both_times(page, exported):
    page.goto("/")
    page.locator("#samples button").nth(3).click()
    wanted = exported.keras_probabilities(exported.samples[3:4])[0]
    assert_same(settled(page), top_five(wanted, CLASS_NAMES))
    name, share = top_five(wanted, CLASS_NAMES)[0]
    assert page.locator("#answer").inner_text().startswith(name)
    assert name in page.locator("#announcement").inner_text(), "what a screen reader says"
    assert_same(predict(page), top_five(wanted, CLASS_NAMES))
    times = page.locator(".times").inner_text()
    assert "Inference" in times and "First run" in times and " ms" in times
    assert "LiteRT.js, WebAssembly" in page.locator(".result .runs-on").inner_text()
    page.locator("#status summary").first.click()
    reasons = page.locator("#status").inner_text()
    assert "LiteRT.js, WebGPU: WebGPU" in reasons, "why the first choice is not used"


@pytest.mark.parametrize("runtime", ["tfjs-wasm", "tfjs-webgl"])
def test_runtime_switch(page, exported, runtime):
    page.goto("/")
    choose_runtime(page, runtime)
    page.locator("#samples button").nth(1).click()
    wanted = exported.keras_probabilities(exported.samples[1:2])[0]
    assert_same(settled(page), top_five(wanted, CLASS_NAMES))
    assert RUNTIMES[runtime] in page.locator(".result .runs-on").inner_text()


@pytest.mark.parametrize("how", ["choose", "paste", "drop"])
def test_an_image_can_be_chosen_pasted_and_dropped(page, exported, how):
    page.goto("/")
    path = exported.photos[4]
    give_file(page, path.read_bytes(), "image/jpeg", how, path.name)
    wanted = exported.keras_probabilities([path])[0]
    assert settled(page)[0][0] == top_five(wanted, CLASS_NAMES)[0][0]


def tab_to(page, target: str, key: str) -> None:
    """Presses Tab or Shift+Tab until the focus is inside `target`."""
    inside = f"document.activeElement.closest('{target}') !== null"
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate(inside):
            return
    raise AssertionError(f"{key} must reach {target}.")


def test_keyboard_alone_suffices(page, exported):
    page.goto("/")
    page.locator("#samples button").first.wait_for()
    tab_to(page, "#samples", "Tab")
    page.keyboard.press("Enter")
    settled(page)
    tab_to(page, "#predict", "Tab")
    page.keyboard.press("Enter")
    page.locator(".result .class").first.wait_for()
    wanted = exported.keras_probabilities(exported.samples[:1])[0]
    assert_same(results(page), top_five(wanted, CLASS_NAMES))


def test_models_side_by_side(page, exported):
    page.goto("/")
    page.locator("#models input").nth(1).check()
    page.locator("#samples button").nth(5).click()
    settled(page)
    names = page.locator(".result h3").all_inner_texts()
    assert [name.split(", ")[1] for name in names] == ["full precision", "half precision"]
    wanted = top_five(exported.keras_probabilities(exported.samples[5:6])[0], CLASS_NAMES)
    assert_same(results(page, 0), wanted)
    other = page.locator(".result").nth(1).locator(".compared li").all_inner_texts()
    assert other[0] == "Same class as the first model."
    wanted_words = r"(As|\d+\.\d times as) fast as the first.*|The first is \d+\.\d times as fast.*"
    assert re.fullmatch(wanted_words, other[1])
    assert page.locator(".result").nth(0).locator(".compared").count() == 0
    # Half precision.
    assert results(page, 1)[0] == (wanted[0][0], pytest.approx(wanted[0][1], abs=1e-2))


def test_the_address_is_a_link_that_opens_the_same_models(page, exported):
    page.goto("/")
    page.locator("#status", has_text="full precision: Runs on").wait_for()
    assert page.url.endswith("/")
    page.locator("#models input").nth(1).check()
    page.locator("#models input").nth(0).uncheck()
    page.locator("#status", has_text="half precision: Runs on").wait_for()
    link = page.url
    assert exported.index()[1]["id"] in link
    page.goto("/models.json")
    page.goto(link)
    page.locator("#status", has_text="half precision: Runs on").wait_for()
    assert page.locator("#models input").nth(1).is_checked()
    assert not page.locator("#models input").nth(0).is_checked()


def test_model_card_shows_the_report(page, exported):
    page.goto("/")
    card = page.locator(".model-card").first
    card.locator("summary").click()
    report = exported.index()[0]["reports"]["tflite"]
    facts = card.inner_text()
    assert f"{SIZE} × {SIZE} pixels" in facts
    assert "float32" in facts
    assert f"{report['parameters']:,}" in facts
    assert "not measured" in facts, "the report holds no accuracy"


def test_capture_from_the_camera(page):
    page.goto("/")
    page.click("#camera")
    page.locator("#video").wait_for()
    page.click("#switch")
    page.locator("#capture:enabled").click()
    page.locator("#preview").wait_for()
    assert not page.locator("#video").is_visible()
    assert page.evaluate("document.querySelector('#preview').width") > 100
    total = sum(probability for _, probability in settled(page))
    assert 0 < total <= 1 + 1e-6


def test_live_camera(page):
    page.goto("/")
    page.click("#live")
    page.locator("#rate", has_text="frames/s").wait_for()
    page.locator(".result .class").first.wait_for()
    assert float(page.locator("#rate").inner_text().split()[0]) > 0.5
    assert page.locator("#live").get_attribute("aria-pressed") == "true"
    page.click("#stop")
    assert not page.locator("#video").is_visible()
    assert not page.locator("#rate").is_visible()


def test_another_page_uses_a_model_in_a_few_lines(page, exported):
    """The module `infer.js`, on a page that is not the application."""
    page.goto("/models.json")
    files = exported.index()[0]["files"]
    top = page.evaluate(
        """async ([model, image]) => {
          const { load } = await import("/infer.js");
          const model_ = await load(model);
          const bitmap = await createImageBitmap(await (await fetch(image)).blob());
          return model_.classify(bitmap);
        }""",
        [f"/{files['tflite']}", "/samples/02.png"],
    )
    wanted = top_five(exported.keras_probabilities(exported.samples[2:3])[0], CLASS_NAMES)
    assert_same([(row["label"], row["probability"]) for row in top], wanted)
