"""The moving picture of the first page: a real film with the poses that the shipped weights find in it.

`python .ci/hero.py` fetches the PyPI package `pose2sim` (Copyright (c) 2022 perfanalytics, BSD 3-Clause), takes one film
of its Demo_SinglePerson, whose faces its authors made unrecognisable, and writes nbs/images/hero.webp."""
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw
import av
from solopose import predict_video
from solopose.figures import draw_limbs
from solopose.predict.overlay import draw_people, place_array
from solopose.skeleton import SKELETON

PACKAGE, FILM = 'pose2sim==0.10.49', 'Pose2Sim/Demo_SinglePerson/videos/cam02.mp4'
PART = 0, 230, 1080, 1580 # of the film that is shown: left, top, right, bottom, px
SIZE, EVERY, RATE = (352, 440), 2, 20 # of each half, px; frame of the film; frames per second shown


def fetch(folder):
    "The film, out of the published wheel."
    subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', folder, PACKAGE], check=True)
    wheel, = Path(folder).glob('pose2sim*.whl')
    return zipfile.ZipFile(wheel).extract(FILM, folder)


def turned(pose, degrees):
    "A pose (J, 3) in camera axes, seen by somebody who has walked around it, (J, 2) mm."
    a = np.radians(degrees)
    x, y, z = pose.T
    side, depth = np.cos(a) * x + np.sin(a) * z, np.cos(a) * z - np.sin(a) * x
    return np.stack([side, y + .2 * -depth], -1)


def space(pose, floor, degrees):
    "The half that shows the pose (J, 3) in space over a floor at height `floor`, mm."
    big = Image.new('RGB', (2 * SIZE[0], 2 * SIZE[1]), 'white')
    place = lambda points: turned(points, degrees) * .42 + [SIZE[0], SIZE[1]]
    grid = np.linspace(-750, 750, 7)
    pen = ImageDraw.Draw(big)
    for g in grid:
        for ends in ([[g, floor, -750], [g, floor, 750]], [[-750, floor, g], [750, floor, g]]):
            pen.line([tuple(p) for p in place(np.array(ends, float))], fill='#d0d4da', width=2)
    return draw_limbs(big, place(pose)[None], SKELETON, 8).resize(SIZE, Image.LANCZOS)


def main():
    with tempfile.TemporaryDirectory() as folder:
        film = fetch(folder)
        poses = predict_video(film).poses
        with av.open(str(film)) as c: frames = [f.to_ndarray(format='rgb24') for f in c.decode(video=0)]
    places = place_array(poses)
    largest = np.nanmean(np.ptp(places[..., 1], axis=-1), axis=0).argmax()
    position = poses.position.transpose('individual', 'time', 'keypoint', 'space').values[largest]
    floor, out = np.nanpercentile(position[..., 1].max(1), 90) + 60, []
    for k in range(0, len(frames), EVERY):
        left = Image.fromarray(draw_people(frames[k], places[k], SKELETON)).crop(PART).resize(SIZE, Image.LANCZOS)
        both = Image.new('RGB', (2 * SIZE[0], SIZE[1]))
        both.paste(left, (0, 0))
        both.paste(space(position[k], floor, 55 * np.sin(2 * np.pi * k / len(frames))), (SIZE[0], 0))
        out.append(both)
    path = Path(__file__).parents[1] / 'nbs' / 'images' / 'hero.webp'
    out[0].save(path, save_all=True, append_images=out[1:], duration=1000 // RATE, loop=0, quality=60, method=6)
    print(f'{path}: {len(out)} frames, {path.stat().st_size / 1e6:.2f} MB, {poses.attrs["model"]}')


if __name__ == '__main__': main()
