"""The page in Gradio: fields, a slider, columns that fill while models write, a curve, a tally."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from icot.demonstration.figures import show_curve, show_tally
from icot.demonstration.service import Service

STYLE = Path(__file__).with_name("page.css")
# Browsers then read aloud what the models said, once it is there.
READ_ALOUD = "() => document.getElementById('said').setAttribute('aria-live', 'polite')"
# What uses models happens for one visitor at a time; others wait.
IN_TURN: dict[str, Any] = {
    "concurrency_id": "models",
    "concurrency_limit": 1,
    "show_progress": "hidden",
}
HIDDEN: dict[str, Any] = {"api_visibility": "private"}  # no name in the page's interface
INFO = (
    "How much of its chain of thought a model writes down. The nearest stage whose weights are "
    "there is taken."
)


def build_page(service: Service, waiting: int) -> gr.Blocks:
    """The page; ``waiting`` visitors may wait, further ones are told to come again."""
    with gr.Blocks(title="icot demo", analytics_enabled=False) as page:
        gr.HTML(_head(service), padding=False)
        with gr.Row():
            fields = _fields(service)
        with gr.Row():
            ask = gr.Button("Answer", variant="primary")
            surprise = gr.Button("Random question")
        slider = _slider(service)
        said = gr.HTML(elem_id="said", padding=False)
        columns = gr.HTML(elem_id="columns", padding=False)
        begun = show_curve(service.runs, service.choose(slider.value))
        curve = gr.HTML(begun, elem_id="curve", padding=False)
        gr.HTML("<h2>Tally</h2>", padding=False)
        with gr.Row():
            more = gr.Button(f"Ask {service.tally_of} random questions")
            again = gr.Button("Start again")
        table = gr.HTML(show_tally({}), elem_id="tally", padding=False)
        tally = gr.State({})

        typed, shown = [*fields, slider], [said, columns, curve]
        asked = [ask.click, *(field.submit for field in fields)]
        gr.on(asked, service.answer, typed, shown, api_name="answer", **IN_TURN)
        moved = {"trigger_mode": "always_last", **HIDDEN, **IN_TURN}
        slider.input(service.answer, typed, shown, **moved)
        drawn = surprise.click(
            service.draw, None, fields, api_name="random", show_progress="hidden"
        )
        drawn.then(service.answer, typed, shown, **HIDDEN, **IN_TURN)
        counted = [tally, table, said]
        more.click(service.count, [slider, tally], counted, api_name="tally", **IN_TURN)
        again.click(lambda: ({}, show_tally({})), None, [tally, table], **HIDDEN)
        page.load(None, None, None, js=READ_ALOUD)
    page.queue(max_size=waiting)
    made: gr.Blocks = page
    return made


def _fields(service: Service) -> list[gr.Textbox]:
    values, labels = service.first(), service.questions.labels
    keyboard = gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, enterkeyhint="go")
    return [
        gr.Textbox(
            value,
            label=label,
            max_lines=6 if len(labels) == 1 else 1,
            html_attributes=keyboard,
        )
        for value, label in zip(values, labels, strict=True)
    ]


def _slider(service: Service) -> gr.Slider:
    longest, step = service.longest, service.step
    return gr.Slider(
        0,
        max(longest, 1),
        longest // step // 2 * step,
        step=step,
        label="Chain tokens to write",
        info=INFO,
        visible=any(len(writers) > 1 for writers in service.runs),
        buttons=[],
    )


def _head(service: Service) -> str:
    names = ", ".join(escape(writers[0].run) for writers in service.runs)
    tasks = ", ".join(sorted({escape(writer.task.name) for writer in service.writers}))
    return (
        "<h1>Answers with and without a written chain of thought</h1>"
        f"<p>Models of {names}, trained on {tasks}. Ask a question, and see what each writes.</p>"
    )
