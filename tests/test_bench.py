"The benchmark command in a fresh process: well-formed rows, and one clear line for what it cannot do. Nothing here judges a time."
import json
import subprocess
import sys

import pytest

KEYS = {'name', 'value', 'unit', 'baseline', 'bar', 'share', 'processor'}


@pytest.fixture
def bench(tmp_path_factory):
    "Run the command as its console script does."
    def run(*args, before=''):
        script = tmp_path_factory.mktemp('script') / 'solopose_bench'
        script.write_text(f'import solopose.bench.command as b\n{before}\nb.solopose_bench()\n')
        return subprocess.run([sys.executable, str(script), *map(str, args)], capture_output=True, text=True, timeout=300)
    return run


def test_kabsch_writes_rows(bench, tmp_path):
    "Every row has the seven fields, the processor among them; rows of accuracy hold on any machine; the table on stdout has one line a row."
    out = tmp_path / 'rows.json'
    ran = bench('kabsch', '--json', out)
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = json.loads(out.read_text())
    assert rows and all(set(r) == KEYS for r in rows)
    assert all(isinstance(r['name'], str) and r['value'] > 0 and (r['bar'] is None or r['bar'] > 0) for r in rows)
    exact = [r for r in rows if r['unit'] == 'x under limit']
    assert len(exact) == 3 and all(r['value'] >= r['bar'] for r in exact)
    lines = ran.stdout.splitlines()
    assert len(lines) == 1 + len(rows) and lines[0].startswith('solopose ') and 'commit' in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ['rows.json']


def refused(ran, name):
    lines = [l for l in ran.stderr.splitlines() if l.startswith('solopose_bench:')]
    assert ran.returncode == 2 and len(lines) == 1 and name in lines[0], (ran.returncode, ran.stderr)
    assert 'Traceback' not in ran.stderr and not ran.stdout


def test_unknown_part_is_one_clear_line(bench): refused(bench('speed'), 'heatpose, kabsch, model')


@pytest.mark.parametrize('where', ['none/rows.json', ''])
def test_bad_json_path_is_refused_before_anything_is_measured(bench, tmp_path, where): refused(bench('kabsch', '--json', tmp_path / where), str(tmp_path))


def test_missing_argument_exits_2(bench):
    ran = bench()
    assert ran.returncode == 2 and 'Traceback' not in ran.stderr and 'part' in ran.stderr


def test_an_older_file_survives_a_run_that_ends_early(bench, tmp_path):
    "Rows replace a file only when all of them are there."
    out = tmp_path / 'rows.json'
    out.write_text('[]')
    ran = bench('kabsch', '--json', out, before='def gone(): raise OSError("the disk is gone")\nb.PARTS["kabsch"] = gone')
    assert ran.returncode == 2 and 'the disk is gone' in ran.stderr and 'Traceback' not in ran.stderr
    assert out.read_text() == '[]'
