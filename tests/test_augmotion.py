"The collection built from native trees by its command, killed at random moments, and given bad data."
import json, multiprocessing, os, random, shutil, signal, sys, time
from dataclasses import replace
from functools import partial
from pathlib import Path
import numpy as np
import pytest
from solopose.datasets.augmotion import Collection, build, check_manifest
from solopose.datasets.takes import Take, View, moving_person
from solopose.skeleton import SKELETON

SMALL = Collection(shard=512)


def slowly(points, view, wait=.02):
    "A reader that takes its time, so that a kill finds it at work."
    time.sleep(wait)
    return points


def crowd(n=24, seconds=8):
    "Takes in memory: `n` copies of three people, 25 poses a second."
    people = [moving_person(i, seconds, 25) for i in range(3)]
    return [Take('demo', f'p{i}', 'move', f'take {i:02d}', SKELETON, 25, len(p.joints), partial(slowly, p.joints + 10. * i), up=(0, 0, 1), head='head_top',
                 views=[View(c.name, c) for c in p.cameras]) for i in range(n) for p in [people[i % 3]]]


def contents(store):
    "Every file of a folder and its bytes."
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(Path(store).rglob('*')) if p.is_file()}


def where(work):
    "What a killed build was doing."
    if not (work / 'plan.json').exists(): return 'planning'
    if (work / 'indexed').exists(): return 'writing'
    return 'indexing' if (work / 'store').exists() else 'reading'


def test_killed_twenty_times(tmp_path):
    # small takes, one process, artificial slowness: 20 kills -9 at random moments, each of a build that was at work
    takes, dice = crowd(), random.Random(0)
    build(takes[:1], tmp_path / 'warm', SMALL, progress=False)   # what is imported late
    start = time.time(); whole = build(takes, tmp_path / 'whole', SMALL, progress=False); took = time.time() - start
    truth, kills, finished, found = contents(whole), 0, 0, []
    assert len(truth) > 40 and check_manifest(whole) == []
    while kills < 20:
        child = multiprocessing.get_context('fork').Process(target=build, args=(takes, tmp_path / 'cut', SMALL), kwargs=dict(progress=False))
        child.start(); child.join(dice.uniform(.02, .7) * took)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL); child.join(); kills += 1
            found.append(where(tmp_path / '.cut.building'))
            assert not (tmp_path / 'cut').exists() or contents(tmp_path / 'cut') == truth   # a store with its name is whole
        if (tmp_path / 'cut').exists():
            assert child.exitcode in (0, -signal.SIGKILL) and contents(tmp_path / 'cut') == truth
            finished += 1; shutil.rmtree(tmp_path / 'cut')
    assert contents(build(takes, tmp_path / 'cut', SMALL, progress=False)) == truth
    assert not (tmp_path / '.cut.building').exists() and {'reading', 'writing'} <= set(found)
    print(f'{kills} kills, in {({f: found.count(f) for f in found})}; {finished + 1} stores, all the same {sum(map(len, truth.values()))} bytes')
