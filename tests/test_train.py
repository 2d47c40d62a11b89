"The training command in processes of its own: killed and continued, on two processes, full disks, signals; and one clear line when something is missing."
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import console

COMMAND = shutil.which('solopose_train', path=str(Path(sys.executable).parent)) or shutil.which('solopose_train')
pytest.importorskip('pytorch_lightning', reason='training needs solopose[train]')
pytest.importorskip('warp', reason='drawing people needs solopose[synth]')

SMALL = dict(image_size=64, width=48, depth=1, heads=2, window=(4, 4, 4), volume=(8, 8, 8), sigma=220.)
RECIPE = dict(batch=16, warmup=2, clip_start=0., clip_share=.4, settings=SMALL, precision='32-true')
SET = f"settings={str(SMALL).replace(' ', '')} warmup=2 clip_start=0. clip_share=.4"


@pytest.fixture(scope='module')
def pool(tmp_path_factory):
    "A pool of small pictures."
    from solopose.training.pools import draw_pool
    path = tmp_path_factory.mktemp('pool') / 'pool'
    for kind, n in (('single', 16), ('easy', 8), ('clip', 6), ('test', 2)): draw_pool(None, path, kind, 1, n, size=64)
    return path


def start(*args, command=(COMMAND,), **env):
    return subprocess.Popen([*command, *map(str, args)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **env})


def train(*args, **kw):
    p = start(*args, **kw)
    out, err = p.communicate(timeout=300)
    return subprocess.CompletedProcess(args, p.returncode, out, err)


def small(pool, out, *args, **env):
    "`solopose_train` with the small network."
    return train('--pool', pool, '--pack', '', '--test', 0, '--out', out, '--batch', 16, '--precision', '32-true', '--log_every', 1, '--threads', 1, '--set', SET, *args, **env)


def said(ran):
    return [line for line in ran.stderr.splitlines() if line.startswith('solopose_train:')]


def test_two_steps_make_weights(tmp_path):
    from solopose.model import create_model
    from solopose.training.pools import draw_pool
    draw_pool(None, tmp_path / 'pool', 'single', 1, 4)
    draw_pool(None, tmp_path / 'pool', 'test', 1, 2)
    ran = train('--pool', tmp_path / 'pool', '--out', tmp_path / 'run', '--steps', 2, '--batch', 4, '--threads', 1)
    assert ran.returncode == 0, ran.stderr[-2000:]
    scores = json.loads((tmp_path / 'run/scores.json').read_text())
    model = create_model(pretrained=tmp_path / 'run/weights.safetensors')
    assert model.metadata['steps'] == 2 and model.metadata['scores'] == scores and scores['frames'] == 16


def test_empty_pool_is_one_clear_line(tmp_path):
    ran = train('--pool', tmp_path / 'pool', '--out', tmp_path / 'run', '--steps', 1, '--test', 0)
    assert ran.returncode == 2 and len(said(ran)) == 1 and 'draw a pool first' in said(ran)[0] and 'Traceback' not in ran.stderr


# One process with everything imported forks a trainer for each kill, so that ten kills cost ten starts of `fit` and not of Python.
KILLER = '''
import os, random, signal, sys, time
from solopose.training.checkpoints import checkpoints
from solopose.training.fit import fit
from solopose.training.recipe import Recipe
kills, pool, out, settings = int(sys.argv[1]), sys.argv[2], sys.argv[3], eval(sys.argv[4])
recipe, dice = Recipe(pool=pool, steps=4 * kills + 4, **settings), random.Random(0)

def trainer(folder):
    pid = os.fork()
    if pid: return pid
    try: fit(recipe, folder, val_clips=0, quiet=True, every=0., log_every=1)
    except BaseException as e: print(repr(e), file=sys.stderr); os._exit(1)
    os._exit(0)

def newest(folder): return max((p.name for p in checkpoints(folder)), default='')

assert os.waitpid(trainer(out + '/whole'), 0)[1] == 0
for n in range(kills):
    before, pid = newest(out + '/killed'), trainer(out + '/killed')
    while newest(out + '/killed') == before:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), 'the trainer ended by itself'
        time.sleep(.002)
    time.sleep(dice.random() * .4)
    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0); print('killed after', newest(out + '/killed'), flush=True)
assert os.waitpid(trainer(out + '/killed'), 0)[1] == 0
'''


def test_ten_kills_leave_the_curve_as_it_was(pool, tmp_path):
    import torch
    from solopose.training.checkpoints import checkpoint_path
    from solopose.training.callbacks import curves
    kills = 10
    ran = subprocess.run([sys.executable, '-c', KILLER, str(kills), str(pool), str(tmp_path), repr(RECIPE)], capture_output=True, text=True, timeout=400, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.count('killed after') == kills, ran.stdout
    whole, killed = curves(tmp_path / 'whole'), curves(tmp_path / 'killed')
    assert len(json.loads((tmp_path / 'killed/run.json').read_text())['sessions']) == kills + 1
    for k in ('step', 'loss', 'heatpose', 'mpjpe', 'lr'): assert whole[k].tolist() == killed[k].tolist(), k  # bit for bit
    last = [torch.load(checkpoint_path(tmp_path / f, 4 * kills + 4), weights_only=True) for f in ('whole', 'killed')]
    for part in (lambda c: c['state_dict'], lambda c: {f'{i}{k}': v for i, s in c['optimizer_states'][0]['state'].items() for k, v in s.items()}):
        a, b = map(part, last)
        assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
    assert [c['lr_schedulers'][0]['last_epoch'] for c in last] == [4 * kills + 4] * 2 and torch.equal(last[0]['random'][0]['torch'], last[1]['random'][0]['torch'])


def test_two_processes_do_what_one_does(pool, tmp_path):
    import numpy as np
    from solopose.training.callbacks import curves
    # A gentle rate: at 1e-3 Adam's first steps are so large on this network that differences in the seventh digit grow to the fourth within ten steps.
    same = ('--steps', 12, '--lr', 5e-5)
    ran = small(pool, tmp_path / 'one', *same)
    assert ran.returncode == 0, ran.stderr[-3000:]
    for strategy, sessions in (('ddp', 1), ('fsdp', 2)):  # fsdp: cut off by the clock after ten steps (two processes agree every tenth), then continued
        for left in reversed(range(sessions)):
            ran = small(pool, tmp_path / strategy, *same, '--devices', 2, '--strategy', strategy, *(['--minutes', .0001] if left else []))
            assert ran.returncode == 0, ran.stderr[-3000:]
        one, two = curves(tmp_path / 'one'), curves(tmp_path / strategy)
        assert one['step'].tolist() == two['step'].tolist() == list(range(1, 13))
        assert np.abs(one['loss'] - two['loss']).max() < 1e-5, strategy


def test_each_process_may_keep_its_own_batch_norms(pool, tmp_path):
    import numpy as np
    from solopose.training.callbacks import curves
    for name, more in (('one', ()), ('own', ('--devices', 2, '--set', f'{SET} sync_norm=False'))):
        ran = small(pool, tmp_path / name, '--steps', 3, *more)
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, own = (curves(tmp_path / k)['loss'] for k in ('one', 'own'))
    assert len(own) == 3 and np.isfinite(own).all() and 1e-4 < np.abs(own / one - 1).max() < .1  # other statistics, the same kind of run


def external(pool, out, rank, port, steps):
    "The command as one of two processes that something else (SLURM, torchrun, a person) started."
    return start('--pool', pool, '--pack', '', '--test', 0, '--out', out, '--batch', 16, '--precision', '32-true', '--log_every', 1,
                 '--threads', 1, '--set', SET, '--steps', steps, '--devices', 2, '--strategy', 'ddp', LOCAL_RANK=str(rank), RANK=str(rank),
                 WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))


def wait_until(true, p, seconds=120):
    end = time.monotonic() + seconds
    while not true() and p.poll() is None and time.monotonic() < end: time.sleep(.05)
    assert true(), p.communicate(timeout=60)[1][-3000:] if p.poll() is not None else 'it takes too long'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def test_a_checkpoint_that_arrives_between_two_processes_is_left_to_the_first(pool, tmp_path):
    "The first process has chosen; a newer checkpoint comes from a third; the second process still follows the first."
    import torch
    from solopose.training.callbacks import curves
    for name, steps in (('run', 2), ('other', 5)):
        ran = small(pool, tmp_path / name, '--steps', steps)
        assert ran.returncode == 0, ran.stderr[-3000:]
    run, port = tmp_path / 'run', free_port()
    first = external(pool, run, 0, port, 8)
    wait_until(lambda: len(json.loads((run / 'run.json').read_text())['sessions']) == 2, first)
    subprocess.run(['cp', tmp_path / 'other/step-00000005.ckpt', run], check=True)
    second = external(pool, run, 1, port, 8)
    for p in (first, second):
        _, err = p.communicate(timeout=200)
        assert p.returncode == 0 and 'Traceback' not in err, err[-3000:]
    assert json.loads((run / 'run.json').read_text())['sessions'][1]['from_step'] == 2
    table = curves(run)
    assert table['step'].tolist() == list(range(1, 9)) and all(table['loss'] > 0)  # steps 3, 4, 5 too: nobody began at 5
    last = torch.load(run / 'step-00000008.ckpt', weights_only=True)
    assert last['global_step'] == 8 and len(last['random']) == 2


def test_a_run_waits_for_the_one_that_still_writes_and_two_at_once_are_refused(pool, tmp_path):
    "Two processes resume while a third, which is told to end, still writes a checkpoint at every step."
    run = tmp_path / 'run'
    third = start('--pool', pool, '--pack', '', '--test', 0, '--out', run, '--steps', 4000, '--batch', 16, '--precision', '32-true',
                  '--threads', 1, '--set', SET, '--every', 0)
    wait_until(lambda: len(list(run.glob('step-*.ckpt'))) == 2, third)
    args = ('--pool', pool, '--pack', '', '--test', 0, '--out', run, '--batch', 16, '--precision', '32-true', '--threads', 1, '--set', SET)
    two = start(*args, '--steps', 4000, '--minutes', .001, '--devices', 2, '--log_every', 1)
    line = two.stderr.readline()
    while line and 'waiting' not in line: line = two.stderr.readline()
    assert f'another run still writes in {run}' in line
    third.send_signal(signal.SIGTERM)
    assert third.wait(timeout=100) == 130
    ended = max(int(p.stem[5:]) for p in run.glob('step-*.ckpt'))
    _, err = two.communicate(timeout=200)
    assert two.returncode == 0 and 'Traceback' not in err, err[-3000:]
    sessions = json.loads((run / 'run.json').read_text())['sessions']
    assert [s['from_step'] for s in sessions] == [0, ended]


def test_slurm_signal_requeues_and_a_truncated_checkpoint_is_passed_over(pool, tmp_path):
    tools = tmp_path / 'bin'; tools.mkdir()
    (tools / 'scontrol').write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n'); (tools / 'scontrol').chmod(0o755)
    out, args = tmp_path / 'run', ('--pool', pool, '--pack', '', '--test', 0, '--out', tmp_path / 'run', '--steps', 40, '--batch', 16, '--precision', '32-true', '--threads', 1, '--set', SET)
    p = start(*args, '--every', 0, PATH=f"{tools}:{os.environ['PATH']}", SLURM_JOB_ID='77', SLURM_NTASKS='1', SLURM_JOB_NAME='train', SLURM_PROCID='0', SLURM_LOCALID='0', SLURM_NODEID='0', SLURM_NTASKS_PER_NODE='1')
    end = time.monotonic() + 120
    while len(list(out.glob('step-*.ckpt'))) < 2 and p.poll() is None and time.monotonic() < end: time.sleep(.05)
    p.send_signal(signal.SIGUSR1); _, err = p.communicate(timeout=120)
    assert p.returncode == 130 and 'goes on from' in err and 'Traceback' not in err, err[-3000:]
    assert (tmp_path / 'requeued').read_text() == 'requeue 77\n'
    last = sorted(out.glob('step-*.ckpt'))[-1]; last.write_bytes(last.read_bytes()[:-2000])
    ran = train(*args)
    assert ran.returncode == 0 and [str(last) in line and 'falling back' in line for line in said(ran)] == [True], ran.stderr[-3000:]
    assert json.loads((out / 'run.json').read_text())['sessions'][1]['from_step'] == int(last.stem[5:]) - 1


def test_full_disk_costs_a_line_and_not_the_run(pool, tmp_path):
    limit = 'import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)); from solopose.training.command import solopose_train; sys.exit(solopose_train())'
    script = tmp_path / 'train.py'; script.write_text(limit)
    ran = subprocess.run([sys.executable, script, '--pool', pool, '--pack', '', '--test', '0', '--out', tmp_path / 'run', '--steps', '3', '--batch', '8', '--precision', '32-true', '--threads', '1', '--set', SET],
                         capture_output=True, text=True, timeout=200, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    assert ran.returncode == 0 and (tmp_path / 'run/weights.safetensors').exists(), ran.stderr[-3000:]
    assert len(said(ran)) == 1 and 'disk full' in said(ran)[0] and not list((tmp_path / 'run').glob('*.ckpt')) and not list((tmp_path / 'run').glob('.*.part')), ran.stderr[-3000:]


def test_eval_refuses_in_one_line(tmp_path):
    ran = train(tmp_path / 'none.safetensors', command=(console('solopose_evaluate'),))
    assert ran.returncode == 2 and ran.stderr.count('\n') == 1 and 'none.safetensors' in ran.stderr, ran.stderr
