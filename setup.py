"Everything of the package's description is in settings.ini; this only reads it."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
cfg = ConfigParser(delimiters=['='])
cfg.read(here / 'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
lib = cfg['lib_path']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0', license_files=['LICENSE', 'NOTICE'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    classifiers=[f'Programming Language :: Python :: 3.{k}' for k in (11, 12, 13)],
    packages=find_packages(include=[lib, f'{lib}.*']), package_data={lib: ['assets/*']}, include_package_data=True,
    python_requires=f">={cfg['min_python']}", install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')},
    entry_points={'console_scripts': cfg['console_scripts'].split('\n'), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False)
