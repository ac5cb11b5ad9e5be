"""The program that converts one HTML page: reads it from standard input, writes Markdown or text to standard output.

It runs as a process of its own with hard limits, because a page can be made to take gigabytes and minutes: each line
inside a hundred nested quotations is printed with a hundred marks. Started by
:mod:`codeyard_server.adapters.html_converter`; imports nothing of the server.

    python -I html_worker.py markdown|text MEMORY_BYTES CPU_SECONDS OUTPUT_BYTES
"""

from __future__ import annotations

import resource
import sys


def main() -> None:
    """Convert the page under the limits of the command line; what breaks a limit ends the process."""
    output, memory, seconds, limit = sys.argv[1], *map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import html_to_markdown

    options = html_to_markdown.ConversionOptions(
        output_format="markdown" if output == "markdown" else "plain",
        extract_metadata=False,
        inline_data_media="alt_text_only",
        compact_tables=True,
    )
    html = sys.stdin.buffer.read().decode("utf-8", "replace")
    text = html_to_markdown.convert(html, options).content or ""
    sys.stdout.buffer.write(text.encode("utf-8", "replace")[:limit])


if __name__ == "__main__":
    main()
