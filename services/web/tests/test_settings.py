"""The service's settings load without the web framework: the entrypoint reads them first."""

import subprocess
import sys


def test_reading_the_settings_imports_neither_flask_nor_sqlalchemy():
    code = "import sys, web.settings; print({'flask', 'sqlalchemy', 'psycopg2'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
