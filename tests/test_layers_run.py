"Training on layers in a process of its own, at a tiny scale: a few steps, stopped and continued; and one clear line when something is missing."
import json, subprocess, sys
from pathlib import Path
import numpy as np
import pytest

RUN = "from solopose.training.layers_run import solopose_train_layers\nif __name__ == '__main__': solopose_train_layers()\n"
TINY = dict(image_size=64, width=48, depth=1, heads=2, window=(4, 4, 4), volume=(8, 8, 8), sigma=220., frames=4)


def train(out, *args):
    given = ['--out', out, '--model', 'solopose-tiny', '--set', json.dumps(TINY), '--device', 'cpu', '--layer', 64, '--shard', 4, '--warm', 24, '--places', 8,
             '--capacity', 200, '--test_shards', 1, '--batch', 8, '--every', 1e9, *args]
    script = Path(out).parent / 'command.py'
    script.write_text(RUN)
    return subprocess.run([sys.executable, script, *map(str, given)], capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='module')
def backdrops(tmp_path_factory):
    "A file of ten photographs of noise."
    from solopose.synth.backdrops import write_bank
    path, rng = tmp_path_factory.mktemp('places') / 'backdrops.safetensors', np.random.default_rng(0)
    write_bank(path, [dict(kind='photo', name=f'p{i}', package='-', licence='-', picture=rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)) for i in range(10)])
    return path


@pytest.mark.slow
def test_a_few_steps_then_a_few_more(tmp_path, backdrops):
    pytest.importorskip('numba')
    from solopose.weights import describe_weights
    from solopose.model import load_weights
    out = tmp_path / 'run'
    first = train(out, '--backdrops', backdrops, '--steps', 4, '--unfreeze', .5)
    assert first.returncode == 0, first.stderr[-2000:]
    once = json.loads((out / 'curve.json').read_text())
    assert [r['step'] for r in once] == [4] and 50 < once[0]['single'][1] < once[0]['single'][0] < 3000
    assert describe_weights(out / 'frozen.safetensors')['steps'] == 2
    again = train(out, '--backdrops', backdrops, '--steps', 8, '--unfreeze', .5)
    assert again.returncode == 0, again.stderr[-2000:]
    assert [r['step'] for r in json.loads((out / 'curve.json').read_text())] == [4, 8]
    about = json.loads((out / 'run.json').read_text())
    assert about['session'] == 1 and about['frames'] == 64
    net = load_weights(out / 'weights.safetensors')
    assert describe_weights(out / 'weights.safetensors')['steps'] == 8 and net.config.image_size == 64
    assert not [p for p in out.rglob('*') if '.part' in p.name]
    (out / 'checkpoint.pt').write_bytes(b'damaged')
    refused = train(out, '--backdrops', backdrops, '--steps', 9)
    assert refused.returncode == 2 and 'remove it or name another --out' in refused.stderr and 'Traceback' not in refused.stderr


@pytest.mark.parametrize('given, said', [
    (['--steps', 3, '--backdrops', 'nothing.safetensors'], 'solopose_backdrops'), ([], '--minutes or --steps'),
    (['--steps', 3, '--encoder', 'nothing.safetensors'], 'no such file'), (['--steps', 3, '--processes', 1], 'give 2'),
    (['--steps', 3, '--set', '{'], '--set'), (['--steps', 3, '--set', '{"widht": 3}'], 'width')])
def test_one_line_when_something_is_missing(tmp_path, given, said):
    got = train(tmp_path / 'run', *given)
    assert got.returncode == 2 and said in got.stderr, got.stderr
    assert 'Traceback' not in got.stderr and got.stderr.count('\n') == 1
