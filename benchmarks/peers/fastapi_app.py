"""The FastAPI application that the pipelines answer through."""

from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    """The body of a request."""

    text: str


def serve(classify: Callable[[str], list[dict]], port: int) -> None:
    """Answer `POST /classify` with all labels and their probabilities, the most probable first, until the process ends."""
    app = FastAPI()

    @app.post("/classify")
    def answer(question: Question) -> list[dict]:
        """One text's answer."""
        return classify(question.text)

    uvicorn.run(app, port=port, log_level="warning")
