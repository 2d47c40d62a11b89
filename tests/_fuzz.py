"Thousands of mutated files for one reader: each gives a right value or one clear line, within 10 s and a gigabyte."
import importlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

SECONDS, MEGABYTES = 10, 1024 # that one file may take; that the whole process may


class Late(BaseException):
    "A file took too long. No `except Exception` of a reader can take this for damage."


def one_line(e): assert str(e) and '\n' not in str(e) and len(str(e)) < 1000, repr(e)


def ended(fuzz_one, kind, seed, folder):
    "How the reading of one mutated file ended in a word, and what was wrong with that."
    def late(*_): raise Late
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    began = time.monotonic()
    try: word, wrong = fuzz_one(kind, seed, folder), None
    except (Exception, Late) as e: word, wrong = 'failed', f'{type(e).__name__}: {str(e)[:200]}'
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    took = time.monotonic() - began
    return ('failed', f'{took:.0f} s') if took > SECONDS and wrong is None else (word, wrong)


def many(module, kind, seeds, told='ignore'):
    "Read the mutated files of many seeds in this process; prints JSON lines: the seed at work, and in the end what came of all."
    fuzz_one = importlib.import_module(module).fuzz_one
    warnings.simplefilter(told)
    ends, bad = {}, []
    with tempfile.TemporaryDirectory() as d:
        for seed in seeds:
            print(seed, flush=True) # a crash of the process names it
            word, wrong = ended(fuzz_one, kind, seed, Path(d))
            if wrong: bad.append((seed, wrong))
            ends[word] = ends.get(word, 0) + 1
    print(json.dumps(dict(ends=ends, bad=bad, megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))


def fuzz(module, kind, n=2000, told='ignore', read=50, refused=200):
    "Test `n` mutated files in a process of their own; at least so many are to be read and refused."
    code = (f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import _fuzz; '
            f'_fuzz.many({module!r}, {kind!r}, range({n}), {told!r})')
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=1800)
    lines = r.stdout.splitlines() or ['']
    assert r.returncode == 0, f'ended with {r.returncode} at seed {lines[-1]}: {r.stderr[-2000:]}'
    result = json.loads(lines[-1])
    print(kind, result)
    assert not result['bad'], result['bad'][:20]
    assert result['ends'].get('read', 0) >= read and result['ends'].get('refused', 0) >= refused, result
    assert result['megabytes'] < MEGABYTES, result
