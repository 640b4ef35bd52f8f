"""The written file in the runtime that Android's tasks library is made of."""

import io
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.export.metadata import add_metadata, label_files
from mobilevit_keras.export.metadata_schema import metadata_schema
from mobilevit_keras.tasks import FileOutput
from tests.tiny import coloured_images, load_tiny

metadata = metadata_schema()

NAMES = ("Äpfel", "Birnen", "Feigen")


@pytest.fixture(scope="module", params=["float32", "int8"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "model.tflite"
    images = coloured_images(8, 64)
    if request.param == "float32":
        export_tflite(load_tiny(class_names=NAMES), path, 64, images=images)
    else:
        export_tflite(
            load_tiny(class_names=NAMES),
            path,
            64,
            "int8",
            images,
            images,
            input_type="uint8",
        )
    return path


def test_mediapipe_classifies_with_the_file_alone(file):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(file)))
    # MediaPipe reads memory as it lies.
    pixels = np.ascontiguousarray(coloured_images(4, 64), np.uint8)
    expected = run_tflite(file, pixels.astype(np.float32)).outputs["probabilities"]
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, probabilities in zip(pixels, expected, strict=True):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            categories = classifier.classify(image).classifications[0].categories
            assert [category.category_name for category in categories] == [
                NAMES[index] for index in np.argsort(-probabilities)
            ]
            scores = {category.category_name: category.score for category in categories}
            np.testing.assert_allclose([scores[name] for name in NAMES], probabilities, atol=1e-3)


def test_labels_and_description_are_in_the_file(file):
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        assert archive.namelist() == ["labels.txt", "mobilevit_keras.json"]
        assert archive.read("labels.txt").decode().splitlines() == list(NAMES)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_metadata_are_those_of_the_schema(file):
    content = file.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    buffer = bytes(model.buffers[entry.buffer].data)
    assert metadata.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
    root = metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAs(buffer, 0))
    assert [file.name for file in root.associatedFiles] == [b"mobilevit_keras.json"]
    (graph,) = root.subgraphMetadata
    (image,), (output,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (image.name, output.name) == (b"image", b"probabilities")
    assert (list(image.stats.min), list(image.stats.max)) == ([0.0], [255.0])
    # The normalisation that float inputs need, and bytes must not have.
    dtype = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type
    assert bool(image.processUnits) == (dtype == schema.TensorType.FLOAT32)


def test_outputs_are_described_in_the_order_of_the_graph(file):
    """Each by its name in the signature; only those with classes have files of names."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes(), 0))
    outputs = [FileOutput("location", "Boxes"), FileOutput("score", "Scores", NAMES)]
    assert list(label_files(outputs)) == ["labels.txt"]
    with pytest.raises(KeyError):
        add_metadata(file.read_bytes(), outputs, "name", "words")
    # A graph that puts its one output out as "location".
    model.signatureDefs[0].outputs[0].name = b"location"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    added = add_metadata(bytes(builder.Output()), outputs, "name", "words")
    again = schema.ModelT.InitFromObj(schema.Model.GetRootAs(added, 0))
    buffer = bytes(again.buffers[again.metadata[-1].buffer].data)
    root = metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAs(buffer, 0))
    (described,) = root.subgraphMetadata[0].outputTensorMetadata
    assert described.name == b"location" and not described.associatedFiles
