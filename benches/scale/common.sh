# What the scripts share: the command, photos, and the run of one machine to compare with.
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
REKINDLE=${REKINDLE:-$REPOSITORY/target/release/rekindle}
[ -x "$REKINDLE" ] || { echo "no $REKINDLE: cargo build --release --bin rekindle" >&2; exit 1; }

# Copies of the demo photos, so many of each, in $1.
photos() {
  local to=$1 copies=$2
  for class in "$REPOSITORY"/demo/photos/*/; do
    mkdir -p "$to/$(basename "$class")"
    for photo in "$class"*; do
      for ((copy = 0; copy < copies; copy++)); do
        # JPEG's end may be followed by anything: each copy has a content of its own.
        { cat "$photo"; echo "$copy"; } >"$to/$(basename "$class")/$copy-$(basename "$photo")"
      done
    done
  done
}

# Seconds that a command takes.
seconds() {
  local start end
  start=$(date +%s.%N)
  "$@" >&2
  end=$(date +%s.%N)
  echo "$start $end" | awk '{printf "%.1f", $2 - $1}'
}

# The numbers of a model's file, without the header, whose order is of no meaning.
numbers() {
  python3 - "$1" <<'PYTHON'
import hashlib, sys
data = open(sys.argv[1], "rb").read()
print(hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest())
PYTHON
}

# Whether two files' numbers are the same; says so.
compare() {
  if [ "$(numbers "$1")" = "$(numbers "$2")" ]; then
    echo "the same bits as one machine: $(numbers "$1" | cut -c1-16)"
  else
    echo "OTHER BITS than one machine" >&2
    exit 1
  fi
}
