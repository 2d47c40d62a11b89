"Another skeleton by one table entry: drawn, learned, kept in a file, and predicted."
import json

import numpy as np
import pytest
import torch

from solopose.model import create_model
from solopose.skeleton import SKELETON, SKELETONS, Skeleton

SMALL = dict(image_size=64, width=48, depth=1, heads=2, window=(4, 4, 4), volume=(8, 8, 8), sigma=220.)
HALF = ('hip', 'knee', 'ankle', 'shoulder', 'elbow', 'wrist')
ABOVE = dict(knee='hip', ankle='knee', elbow='shoulder', wrist='elbow', hip='pelvis', shoulder='neck')
LAB_17 = Skeleton('lab_17', ('nose', 'neck', 'spine', *(f'{s}_{j}' for j in HALF for s in 'lr'), 'pelvis',
                             'head_top'),
                  {'nose': 'neck', 'head_top': 'nose', 'neck': 'spine', 'spine': 'pelvis',
                   **{f'{s}_{j}': ABOVE[j] if ABOVE[j] in ('pelvis', 'neck') else f'{s}_{ABOVE[j]}'
                      for j in HALF for s in 'lr'}})


@pytest.fixture(params=['h36m_17', 'lab_17'])
def skeleton(request, monkeypatch):
    "Human3.6M's 17 keypoints, and others in an order of their own that the table has not had before."
    monkeypatch.setitem(SKELETONS, 'lab_17', LAB_17)   # the one entry
    return SKELETONS[request.param]


def test_truth_is_the_same_person(skeleton):
    """Pictures do not depend on the skeleton, joints that both have are at one place, the others lie
    where they should."""
    pytest.importorskip('warp', reason='drawing people needs solopose[synth]')
    from solopose.synth.stream import SynthStream
    a, b = (SynthStream(frames=2, size=64, seed=5, skeleton=s)[0] for s in (SKELETON, skeleton))
    assert torch.equal(a['frames'], b['frames']) and b['joints'].shape == (2, 17,
        3) and b['visible'].shape == (2, 17)
    both = [j for j in SKELETON.joints if j in skeleton.joints]
    assert len(both) == 14 and torch.equal(a['joints'][:, SKELETON.index(*both)],
                                           b['joints'][:, skeleton.index(*both)])
    at = lambda name: b['joints'][:, skeleton.index(name)]
    assert torch.equal(at('head_top'), a['joints'][:, SKELETON.index('head')])
    down, up = at('spine').norm(dim=-1), (at('neck') - at('spine')).norm(dim=-1)
    # between pelvis and neck
    assert (down > 120).all() and (up > 120).all() and (down + up < 1.25 * at('neck').norm(dim=-1)).all()
    assert ((at('nose') - at('head_top')).norm(dim=-1) < 350).all() and (
        (at('nose') - at('neck')).norm(dim=-1) < 350).all()


def test_bodies_say_what_they_lack():
    pytest.importorskip('warp', reason='drawing people needs solopose[synth]')
    from solopose.synth.stream import SynthStream
    with pytest.raises(ValueError, match='a drawn body has no l_eye, r_eye, l_ear, r_ear; it has pelvis'):
        SynthStream(frames=1, size=64, skeleton=SKELETONS['coco_17'])[0]


def test_pool_of_another_skeleton_is_refused(tmp_path):
    pytest.importorskip('pytorch_lightning', reason='training needs solopose[train]')
    from solopose.training.batches import Batches
    from solopose.training.recipe import Recipe
    with pytest.raises(ValueError, match="has the keypoints of 'solopose15', the model those of 'h36m_17'"):
        Batches(Recipe(settings=dict(skeleton='h36m_17'), data=dict(pool=1.), pool=str(tmp_path)))


def test_train_and_predict(skeleton, tmp_path, short_clip):
    """A few steps on drawn people lower the loss; the file of weights names the 17 joints, and so do the
    poses of a video."""
    pytest.importorskip('pytorch_lightning', reason='training needs solopose[train]')
    pytest.importorskip('warp', reason='drawing people needs solopose[synth]')
    from solopose.predict.run import predict_video
    from solopose.predict.writers import write_results
    from solopose.training.callbacks import curves
    from solopose.training.command import write_run
    from solopose.training.fit import fit
    from solopose.training.recipe import Recipe
    recipe = Recipe(data=dict(synth=1.), batch=16, steps=40, warmup=4, lr=2e-3, ema=.5, clip_start=.5,
                    clip_share=.3, precision='32-true',
                    settings=dict(SMALL, skeleton=skeleton.name), pool=str(tmp_path / 'pool'))
    net, step = fit(recipe, tmp_path / 'run', quiet=True, log_every=1)
    loss = curves(tmp_path / 'run')['loss']
    assert step == 40 and loss[-5:].mean() < .9 * loss[:3].mean(), loss
    write_run(net, tmp_path / 'run', tmp_path / 'pool', step)

    if skeleton is LAB_17: del SKELETONS['lab_17']   # as on another machine: the file brings its skeleton
    model = create_model(pretrained=tmp_path / 'run/weights.safetensors')
    assert model.skeleton == skeleton
    assert model.metadata['joints'] == list(skeleton.joints) and model.config.skeleton == skeleton.name
    found = predict_video(short_clip, model, boxes=(0, 0, 160, 120))
    assert tuple(found.poses.keypoint.values) == skeleton.joints and found.poses.attrs[
        'skeleton'] == skeleton.name
    position = found.poses.position.transpose('time', 'keypoint', 'space', 'individual').values
    assert position.shape == (12, 17, 3, 1) and np.isfinite(position).all()
    assert np.abs(position[:, skeleton.index('pelvis')]).max() < 1e-3
    _, text, page = write_results(found, tmp_path / 'out')
    said = json.loads(text.read_text())
    assert said['keypoints'] == list(skeleton.joints) and said['parents'] == list(
        skeleton.parents) and page.stat().st_size > 10_000
