"""What runs inside an image's container as root: look at the image, or install packages into it.

Standard library only; understood by Python 2.7 and 3.6, so that an old image can say what it is.
``python inside.py probe`` prints one line of JSON; ``python inside.py install SPEC`` installs;
``python inside.py resolve SPEC`` prints what that would add, by hash.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Annotations are a syntax error in Python 2.

import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile

MARK = "tfgpu-probe:"
RESOLVED = "tfgpu-resolved:"


def probe():
    """Return what there is to know of this image, as plain data."""
    packages = installed(sys.path)
    aside = installed(user_sites())
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "libc": " ".join(platform.libc_ver()).strip() or ("musl" if glob.glob("/lib/ld-musl-*") else ""),
        "machine": platform.machine(),
        "packages": packages,
        "user_packages": {name: aside[name] for name in aside if name not in packages},
        "cuda": os.environ.get("CUDA_VERSION", "") or first(packages, "nvidia-cuda-runtime"),
        "cudnn": cudnn_version() or first(packages, "nvidia-cudnn"),
        "apt": os.path.exists("/usr/bin/apt-get"),
        "distribution": distribution(),
        "pip_wheel": pip_wheel(),
        "root_only": root_only(),
        "passwd": text_of("/etc/passwd"),
        "group": text_of("/etc/group"),
    }


def installed(folders):
    """Return name -> version of the packages that Python finds, the first on the path first."""
    found = {}  # type: dict[str, str]
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder or ".", "*.*-info"))):
            if os.path.isdir(path):
                named = [os.path.join(path, name) for name in ("METADATA", "PKG-INFO")]
            else:
                named = [path]
            for file in named:
                fields = {}  # type: dict[str, str]
                for line in text_of(file).splitlines():
                    key, _, value = line.partition(":")
                    if not line.strip():
                        break
                    fields.setdefault(key, value.strip())
                if "Name" in fields and "Version" in fields:
                    name = fields["Name"].lower().replace("_", "-").replace(".", "-")
                    found.setdefault(name, fields["Version"])
                    break
    return found


def user_sites():
    """Return where ``pip install --user`` puts packages, for each user of the image."""
    bases = [os.environ.get("PYTHONUSERBASE", "")]
    homes = [os.environ.get("HOME", "")]
    homes.extend(line.split(":")[5] for line in text_of("/etc/passwd").splitlines() if line.count(":") > 5)
    bases.extend(os.path.join(home, ".local") for home in homes)
    return [os.path.join(base, "lib", "python%d.%d" % sys.version_info[:2], "site-packages") for base in bases if base]


def cudnn_version():
    """Return the version of the cuDNN that is a system library, from its file name."""
    for path in sorted(
        glob.glob("/usr/lib/*/libcudnn.so.*.*") + glob.glob("/usr/local/cuda*/lib64/libcudnn.so.*.*")
    ):
        return path.partition(".so.")[2]
    return ""


def distribution():
    """Return the distribution's id and version, as ``debian 12``."""
    fields = dict(
        line.partition("=")[::2] for line in text_of("/etc/os-release").splitlines() if "=" in line
    )
    words = [fields.get(name, "").strip("\"'") for name in ("ID", "VERSION_ID")]
    return " ".join(words).strip()


def first(packages, prefix):
    """Return the version of the first package whose name begins so."""
    return next((packages[name] for name in sorted(packages) if name.startswith(prefix)), "")


def pip_wheel():
    """Return the pip that ensurepip would install, or ''. Distributions have it in a folder of their own."""
    try:
        import ensurepip
    except ImportError:
        return ""
    folders = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
    folders += [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
    found = [path for folder in folders if folder for path in glob.glob(os.path.join(folder, "pip-*.whl"))]
    return found[0] if found else ""


def root_only():
    """Return the folder on the way to the interpreter or its library that only root may enter, or ''."""
    for path in (os.path.realpath(sys.executable), os.path.realpath(os.__file__)):
        while path != os.path.dirname(path):
            if not os.stat(path).st_mode & (0o001 if os.path.isdir(path) else 0o004):
                return path
            path = os.path.dirname(path)
    return ""


def text_of(path):
    """Return a file's text, or nothing where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def install(spec):
    """Install what the spec (see ``install.py``) asks for; pip's words go to standard output."""
    os.umask(0o022)
    python = sys.executable
    env = dict(os.environ, **spec["env"])
    if spec["system_packages"]:
        apt(spec["system_packages"], env)
    if spec["venv"]:
        subprocess.check_call([python, "-m", "venv", spec["venv"]])
        python = os.path.join(spec["venv"], "bin", "python3")
    if spec["new_pip"]:
        env["PYTHONPATH"] = beside(python, spec["new_pip"], env)
    if spec["arguments"]:
        before = records(python, env)
        run([python, "-m", "pip", "install", "--no-compile", "--progress-bar", "off"] + spec["arguments"], env)
        compiled(python, sources(records(python, env) - before))
    env.pop("PYTHONPATH", None)
    if spec["venv"]:
        run([python, "-m", "pip", "check"], env)
    run([python, os.path.abspath(__file__), "probe"], env)


def beside(python, new_pip, env):
    """Make an own copy of pip, and return its folder: the image keeps the pip it has, or has none yet."""
    here = os.path.dirname(os.path.abspath(__file__))
    folder = os.path.join(here, "pip")
    make = [python, "-m", "pip", "install", "--quiet", "--target", folder, new_pip]
    if subprocess.call([python, "-c", "import pip"], env=env, stderr=subprocess.DEVNULL) == 0:
        run(make, env)
        return folder
    first = os.path.join(here, "first")
    lent = os.path.join(here, "pip.zip")
    with zipfile.ZipFile(lent if os.path.exists(lent) else pip_wheel()) as archive:
        archive.extractall(first)
    run(make, dict(env, PYTHONPATH=first))
    # Its name taken away, pip doesn't count itself as installed, and installs pip where that is wanted.
    for path in glob.glob(os.path.join(folder, "pip-*.dist-info")):
        shutil.rmtree(path)
    return folder


def records(python, env):
    """Return the files in which Python's installed packages list their files."""
    ask = "import json, sys; print(json.dumps(sys.path))"
    folders = json.loads(subprocess.check_output([python, "-c", ask], env=env).decode())
    return {path for folder in folders for path in glob.glob(os.path.join(folder, "*.dist-info", "RECORD"))}


def sources(lists):
    """Return the modules of installed packages, but those of their tests, which nobody imports."""
    found = []
    for path in sorted(lists):
        for line in text_of(path).splitlines():
            name = line.rpartition(",")[0].rpartition(",")[0]
            if name.endswith(".py") and not {"tests", "test"} & set(name.split("/")):
                found.append(os.path.normpath(os.path.join(os.path.dirname(os.path.dirname(path)), name)))
    return found


def compiled(python, files):
    """Compile modules with all processors; pip uses one, and takes longer for it than for the rest."""
    here = os.path.dirname(os.path.abspath(__file__))
    running = []
    count = os.sysconf("SC_NPROCESSORS_ONLN")
    for number in range(count):
        share = os.path.join(here, "modules.%d" % number)
        with open(share, "w") as file:
            file.write("\n".join(files[number::count]))
        # A module for another Python doesn't compile, which doesn't matter to pip either.
        running.append(subprocess.Popen([python, "-m", "compileall", "-qq", "-i", share]))
    for process in running:
        process.wait()


def apt(packages, env):
    """Install packages of the distribution; what apt downloads for it is removed again."""
    env = dict(env, DEBIAN_FRONTEND="noninteractive")
    # One source that fails, such as a repository of NVIDIA's whose key has changed, need not concern us.
    sys.stdout.flush()
    subprocess.call(["apt-get", "update", "-q"], env=env)
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]
    command.extend(packages)
    run(command, env)
    subprocess.call(["apt-get", "clean"], env=env)
    for path in glob.glob("/var/lib/apt/lists/*"):
        subprocess.call(["rm", "-rf", path])


def resolve(spec):
    """Print name, version and SHA-256 of what an installation adds. This container is thrown away."""
    here = os.path.dirname(os.path.abspath(__file__))
    env = dict(os.environ, **spec["env"])
    if spec["new_pip"]:
        env["PYTHONPATH"] = beside(sys.executable, spec["new_pip"], env)
    pip = [sys.executable, "-m", "pip"]
    report = os.path.join(here, "report.json")
    text = subprocess.check_output(pip + ["install", "--help"], env=env).decode("utf-8", "replace")  # noqa: RUF005 # Python 2.7
    if "--report" in text:
        options = ["--dry-run", "--report", report, "--progress-bar", "off"]
        run(pip + ["install"] + options + spec["arguments"], env)
        with open(report) as file:
            found = [reported(item) for item in json.load(file)["install"]]
    else:  # pip for Python 3.6 has no report: install, and see what came
        before = installed(sys.path)
        run(pip + ["install", "--progress-bar", "off"] + spec["arguments"], env)
        after = installed(sys.path)
        came = sorted(name for name in after if before.get(name) != after[name])
        found = [downloaded(pip, name, after[name], os.path.join(here, "got", name), env) for name in came]
    print(RESOLVED + json.dumps(found))


def reported(item):
    """Return one package of pip's report."""
    name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
    archive = item["download_info"]["archive_info"]
    digest = archive.get("hashes", {}).get("sha256") or archive["hash"].partition("=")[2]
    return [name, item["metadata"]["version"], digest]


def downloaded(pip, name, version, folder, env):
    """Return one package by downloading its file."""
    get = ["download", "--quiet", "--no-deps", "--dest", folder, "%s==%s" % (name, version)]
    run(pip + get, env)
    with open(glob.glob(os.path.join(folder, "*"))[0], "rb") as file:
        return [name, version, hashlib.sha256(file.read()).hexdigest()]


def run(command, env):
    """Run a command; end with its exit code where it fails."""
    sys.stdout.flush()
    code = subprocess.call(command, env=env)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        print(MARK + json.dumps(probe()))
    else:
        with open(sys.argv[2]) as given:
            {"install": install, "resolve": resolve}[sys.argv[1]](json.load(given))
