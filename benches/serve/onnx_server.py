"""The same model behind ONNX Runtime in FastAPI: what `kiln serve` is measured against.

    MODEL=model.onnx uvicorn onnx_server:app --app-dir benches/serve

`model.onnx` is written by `kiln export --format onnx`; normalisation and classes are read from its metadata.
"""

import io
import json
import os

import numpy
import onnxruntime
from fastapi import FastAPI, Request
from PIL import Image

session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
mean, std, classes = (json.loads(about[key]) for key in ("mean", "std", "classes"))
scale = numpy.float32(1 / (255 * std[0]))
shift = numpy.float32(mean[0] / std[0])
height, width = session.get_inputs()[0].shape[2:]
app = FastAPI()


def classify(body):
    image = Image.open(io.BytesIO(body)).convert("L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    images = numpy.asarray(image, numpy.float32)[None, None] * scale - shift
    (logits,) = session.run(["logits"], {"images": images})
    exponentials = numpy.exp(logits[0] - logits[0].max())
    probabilities = exponentials / exponentials.sum()
    top = [{"label": classes[k], "probability": float(probabilities[k])} for k in numpy.argsort(-probabilities)[:3]]
    return {"predictions": [{**top[0], "top": top, "rejected": False}]}


@app.post("/v1/predict")
async def predict(request: Request):
    # Half a millisecond: handing it to a thread would cost more.
    return classify(await request.body())


@app.get("/readyz")
async def ready():
    return "ready"
