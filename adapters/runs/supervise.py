"""Entry of the supervisor's process: `python -I -S supervise.py RUN_DIRECTORY [LOCK_FD]`.

Isolated mode keeps whatever lies in the agent's environment or working directory out of the
supervisor, and also this project, so the entry puts that back. The rest is a module to be loaded
from its byte code.
"""

import sys
from os.path import abspath, dirname

sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

from adapters.runs.supervisor import main

sys.exit(main(sys.argv[1:]))
