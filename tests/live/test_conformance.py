"""jupyter_kernel_test's suite on the kernel ``tfgpu``."""

from __future__ import annotations

import jupyter_kernel_test
import pytest


@pytest.fixture(autouse=True, scope="module")
def _kernelspec(tmp_path_factory: pytest.TempPathFactory, slim: str) -> None:
    from .conftest import install

    folder = tmp_path_factory.mktemp("conformance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("JUPYTER_PATH", str(folder / "share/jupyter"))
        install(folder, "tfgpu", "--image", slim, "--gpus", "none")
        yield  # type: ignore[misc]


class TestConformance(jupyter_kernel_test.KernelTests):
    """What every kernel must do, by Jupyter's own tests."""

    kernel_name = "tfgpu"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": {"zip"}}]  # noqa: RUF012 - the suite's own form
    complete_code_samples = ["1", "print('hello, world')"]  # noqa: RUF012
    incomplete_code_samples = ["print('''hello"]  # noqa: RUF012
    invalid_code_samples = ["import = 7q"]  # noqa: RUF012
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result = [{"code": "1+2+3", "result": "6"}]  # noqa: RUF012
    code_display_data = [  # noqa: RUF012
        {"code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))", "mime": "text/html"}
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
