"""The live page of viser, in a real Chromium: it draws two people in the two colours, and moves, and asks only this machine."""
import asyncio, base64, io
import numpy as np
import pytest
from PIL import Image
from solopose.figures import COLOURS
from solopose.poses import pose_dataset
from solopose.skeleton import standing_pose
from solopose.viz import browser_path

choreographer = pytest.importorskip('choreographer', reason='the browser is driven with choreographer: pip install kaleido')
pytest.importorskip('viser', reason="the live page needs viser: pip install 'solopose[view]'")
if not browser_path(): pytest.skip('no Chromium or Chrome found: install one, or set BROWSER_PATH', allow_module_level=True)
pytestmark = pytest.mark.filterwarnings('ignore')
SIZE = 900, 600


async def look(scene, first, second):
    "Pictures after each of two calls, all addresses asked for, and errors."
    asked, errors, shots = [], [], []
    async def request(m): asked.append(m['params']['request']['url'])
    async def trouble(m): errors.append(str(m['params']))
    async with choreographer.Browser(headless=True, path=browser_path()) as browser:
        tab = await browser.create_tab('', window=True)
        async def send(method, **params):
            reply = await asyncio.wait_for(tab.send_command(method, params=params), 60)
            assert 'error' not in reply, reply
            return reply['result']
        tab.subscribe('Network.requestWillBeSent', request)
        tab.subscribe('Runtime.exceptionThrown', trouble)
        for domain in 'Network', 'Runtime', 'Page': await send(f'{domain}.enable')
        await send('Emulation.setDeviceMetricsOverride', width=SIZE[0], height=SIZE[1], deviceScaleFactor=1, mobile=False)
        await send('Page.navigate', url=scene.address)
        for show in first, second:
            show()
            for _ in range(40):
                await asyncio.sleep(1)
                data = (await send('Page.captureScreenshot', format='png'))['data']
                shot = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB'), int)
                if count(shot, 'left') > 30 and (not shots or np.abs(shot - shots[-1]).max() > 60): break
            shots.append(shot)
    return shots, asked, errors


def count(shot, side, tolerance=45):
    rgb = [int(COLOURS[side][i:i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(shot[120:] - rgb).max(-1) < tolerance).sum())


def test_draws_and_moves():
    from solopose.predict.live import LiveScene
    one = np.stack([standing_pose()] * 2)
    one[1, :, 0] *= 1.5
    poses = pose_dataset(np.stack([one, one], -1), 25.)
    scene = LiveScene(18300)
    try: shots, asked, errors = asyncio.run(look(scene, lambda: scene.push(poses.isel(time=[0])), lambda: scene.push(poses.isel(time=[1]))))
    finally: scene.close()
    for side in 'left', 'right': assert all(count(s, side) > 30 for s in shots), [count(s, side) for s in shots]
    assert (np.abs(shots[0] - shots[1]).max(-1) > 60).sum() > 50
    assert [u for u in asked if not u.startswith(('http://127.0.0.1', 'ws://127.0.0.1', 'data:', 'blob:'))] == [] and errors == []
