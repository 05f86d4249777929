"""Entry point of a supervisor's process: `python -I -S supervise.py run|build ARGUMENT…`.

Isolated mode protects the supervisor from the environment and the working directory of what it
supervises. It also hides this project, so the entry point adds that again. All else is in modules,
which load from their byte code.
"""

import sys
from os.path import abspath, dirname

sys.path.insert(0, dirname(dirname(abspath(__file__))))

if sys.argv[1] == "run":
    from adapters.runs.supervisor import main
else:
    from adapters.builds.supervisor import main

sys.exit(main(sys.argv[2:]))
