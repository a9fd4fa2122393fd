"""vicc as Debian packages it (vsmartcard-vpicc), started so that it finds its modules.

The package puts them where Debian's Python does not look, and wants PyCrypto, which Debian no longer has:
PyCryptodome, under the name it has there, does the same.
"""

import runpy
import sys

import Cryptodome

sys.path.append("/usr/lib/python3/site-packages/virtualsmartcard")
sys.modules["Crypto"] = Cryptodome
sys.argv[0] = "/usr/bin/vicc"
runpy.run_path(sys.argv[0], run_name="__main__")
