#!/usr/bin/env bash
# Everything a GPU is needed for, in one command of less than eight minutes:
#
#   benchmarks/gpu_suite.sh [--out FOLDER] [--official PATH] [--seconds N] [--skip STAGE]...
#
# Stages: library, tests, memcheck, racecheck, bench. The native library is the file that
# DIGAN_NATIVE_LIBRARY names, else the installed one, else it is built for the card at hand.
# Needs Python with torch, numpy, scipy, pytest and matplotlib; what more is missing is skipped
# and named at the end. PYTHON names the interpreter. Without a GPU everything that can start
# is started on the CPU, and the summary says what is missing.
set -uo pipefail
# Paths of the caller's are meant from where the caller stands.
from_here() { case "$1" in '' | /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
if [ -n "${DIGAN_NATIVE_LIBRARY:-}" ]; then
    DIGAN_NATIVE_LIBRARY="$(from_here "$DIGAN_NATIVE_LIBRARY")"
    export DIGAN_NATIVE_LIBRARY
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$root/build/gpu_suite" official="" seconds=470 skip=" "

while [ $# -gt 0 ]; do
    case "$1" in
    --out | --official | --seconds | --skip)
        [ $# -ge 2 ] || { echo "gpu_suite.sh: error: $1 needs a value" >&2; exit 2; }
        case "$1" in
        --out) out="$(from_here "$2")" ;;
        --official) official="$(from_here "$2")" ;;
        --seconds) seconds="$2" ;;
        --skip) skip="$skip$2 " ;;
        esac
        shift 2
        ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "gpu_suite.sh: error: there is no flag '$1' (--help lists them)" >&2; exit 2 ;;
    esac
done
case "$seconds" in '' | *[!0-9]*)
    echo "gpu_suite.sh: error: --seconds must be a number, got '$seconds'" >&2; exit 2 ;;
esac

cd "$root" || exit 2
python="${PYTHON:-}"
if [ -z "$python" ]; then
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=python3; fi
fi
mkdir -p "$out" || exit 2
out="$(cd "$out" && pwd)"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

failed=0 summary=()
say() { summary+=("$1"); echo "== $1"; }
left() { echo $((seconds - SECONDS)); }
has() { "$python" -c "import $1" >/dev/null 2>&1; }
wanted() { case "$skip" in *" $1 "*) say "$1: skipped, as asked"; return 1 ;; esac; }

# stage NAME MOST COMMAND...: runs with the time that is left, MOST seconds of it at most.
stage() {
    local name="$1" most="$2" start="$SECONDS" rest status
    shift 2
    rest="$(left)"
    [ "$rest" -lt "$most" ] || rest="$most"
    if [ "$rest" -lt 10 ]; then say "$name: skipped, no time left of $seconds s"; failed=1; return 1; fi
    echo "== $name: $*"
    timeout -k 5 "$rest" "$@" 2>&1 | tee "$out/$name.log"
    status="${PIPESTATUS[0]}"
    case "$status" in
    0) say "$name: passed, $((SECONDS - start)) s" ;;
    124 | 137) say "$name: FAILED, stopped after $rest s"; failed=1 ;;
    *) say "$name: FAILED with status $status, $((SECONDS - start)) s"; failed=1 ;;
    esac
    return "$status"
}

has torch || { echo "gpu_suite.sh: error: $python cannot import torch" >&2; exit 1; }
gpu="$("$python" -c 'import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "")')"
if [ -n "$gpu" ]; then say "GPU: $gpu"; else say "GPU: missing, so the CPU stands in"; fi
# Property tests run on the CPU; without hypothesis a stand-in lets the files of the others import.
if ! has hypothesis; then
    export PYTHONPATH="$PYTHONPATH:$PWD/benchmarks/stand_in"
    say "hypothesis: missing, a stand-in is imported; no test marked gpu draws its cases"
fi

# The library: given, installed, or built here.
reason() { "$python" -c 'import digan.ops, digan.native as n; print(n.reason())'; }
if wanted library; then
    why="$(reason)"
    if [ -n "$why" ] && [ -z "${DIGAN_NATIVE_LIBRARY:-}" ] && command -v nvcc >/dev/null; then
        if [ -n "$gpu" ] && [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
            TORCH_CUDA_ARCH_LIST="$("$python" -c 'import torch
print("{}.{}".format(*torch.cuda.get_device_capability()).replace("9.0", "9.0a"))')"
            export TORCH_CUDA_ARCH_LIST
        fi
        DIGAN_BUILD_CUDA=1 stage build 240 "$python" setup.py --quiet build_ext --build-lib "$out/lib" &&
            export DIGAN_NATIVE_LIBRARY="$out/lib/digan/_native.so"
        why="$(reason)"
    fi
    if [ -z "$why" ]; then
        say "library: ${DIGAN_NATIVE_LIBRARY:-installed}, for $("$python" -c \
            'import digan.ops, digan.native as n; print(*n.architectures())')"
    else
        say "library: missing: $why"
        [ -z "$gpu" ] || failed=1
    fi
fi

# Tests whose modules need a package that is not here cannot be collected and are named.
if wanted tests; then
    if has pytest; then
        mapfile -t found < <(grep -rlE 'mark\.gpu|each_backend' tests --include='test_*.py' | sort)
        "$python" -m pytest -q --collect-only -p no:cacheprovider "${found[@]}" >"$out/collect.log" 2>&1
        files=()
        for file in "${found[@]}"; do
            if grep -q "^ERROR $file" "$out/collect.log"; then
                say "tests: skipped $(grep -m1 "^ERROR $file" "$out/collect.log")"
            else
                files+=("$file")
            fi
        done
        if [ -n "$gpu" ]; then
            stage tests 150 "$python" -m pytest -q -m gpu -p no:cacheprovider "${files[@]}"
        else
            say "tests: ${#files[@]} files can be collected; none was run without a GPU"
        fi
    else
        say "tests: skipped, pytest is missing"
    fi
fi

# Our kernels alone, where this compute-sanitizer can be told so.
filter=()
if compute-sanitizer --help 2>/dev/null | grep -q -- --kernel-regex; then
    filter=(--kernel-regex kns=digan)
fi
for tool in memcheck racecheck; do
    wanted "$tool" || continue
    if [ -z "$gpu" ]; then
        stage "$tool" 60 "$python" benchmarks/small_shapes.py
    elif command -v compute-sanitizer >/dev/null; then
        # PyTorch's own allocator would hide what lies beyond a tensor.
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 stage "$tool" 90 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 --print-limit 20 "${filter[@]}" \
            "$python" benchmarks/small_shapes.py
    else
        say "$tool: skipped, compute-sanitizer is missing"
    fi
done

# A file for each section: one that runs out of time takes no other with it.
bench() {
    local section="$1" most="$2"
    stage "bench_$section" "$most" "$python" benchmarks/bench_inr.py --device cuda \
        --section "$section" --processes 2 --repeats 10 --budget 3 \
        --json "$out/$section.json" "${flags[@]}"
}
if wanted bench; then
    flags=()
    if has matplotlib; then
        flags+=(--plot "$out")
    else
        say "bench: no pictures, matplotlib is missing"
    fi
    if [ -n "$official" ] && [ ! -d "$official" ]; then
        say "bench: the original is skipped, $official is no folder"
    elif [ -n "$official" ]; then
        flags+=(--official "$official")
    fi
    if [ -n "$gpu" ]; then
        bench ops 150
        bench generator 90
        bench training 150
    else
        stage bench 60 "$python" benchmarks/bench_inr.py --help
    fi
fi

echo
echo "gpu_suite: $SECONDS s, results in $out"
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
exit "$failed"
