# make run: audio to packaged model.  make test, make test-slow: the tests.  make docs: the site.  Each sets up .venv first, once.
PYTHON ?= python3
EXTRAS = train,flows,dask,serve,onnx,docs,dev
STAMP = .venv/.stamp
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# A file's fixtures are made once: its tests stay together.
PYTEST = OMP_NUM_THREADS=1 python -m pytest -n logical --maxprocesses 8 --dist loadfile

.PHONY: run test test-slow check docs setup
run: setup
	dvc repro

test: setup
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) --no-loadscope-reorder -m slow # the longest stand alone in their files, and come last otherwise

check: setup
	ruff check
	ruff format --check
	mypy

# -E: Sphinx warns of a page only when it reads it. The README is the page to begin with.
docs: setup
	python -m sphinx -EWq --keep-going -c docs -d .work/docs . site
	cp site/README.html site/index.html
	@echo site/index.html

setup: $(STAMP)

# uv is ten times faster than pip, and reads UV_FIND_LINKS where pip reads PIP_FIND_LINKS. Compiling once saves each
# process that starts ten seconds, and all of them where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt uv
	env $${PIP_FIND_LINKS:+"UV_FIND_LINKS=$$PIP_FIND_LINKS"} \
		.venv/bin/uv pip install --compile-bytecode --python .venv/bin/python -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@
