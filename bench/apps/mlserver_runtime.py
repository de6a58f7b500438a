from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

import work


class Runtime(MLModel):
    async def load(self) -> bool:
        self._predict = work.predictor()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        import numpy as np

        value = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("predict", np.asarray(self._predict(value)))
        return InferenceResponse(model_name=self.name, outputs=[output])
