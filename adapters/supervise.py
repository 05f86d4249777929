"""Entry of a supervisor's process: `python -I -S supervise.py run|build ARGUMENT…`.

Isolated mode keeps whatever lies in the environment or working directory of what is supervised out
of the supervisor, and also this project, so the entry puts that back. The rest are modules to be
loaded from their byte code.
"""

import sys
from os.path import abspath, dirname

sys.path.insert(0, dirname(dirname(abspath(__file__))))

if sys.argv[1] == "run":
    from adapters.runs.supervisor import main
else:
    from adapters.builds.supervisor import main

sys.exit(main(sys.argv[2:]))
