# Simulates one seed and tells DFM what came of it: an item with the figures, or markers with file and line.
set -e
vvp -n "$DFM_ROOT_RUNDIR/rtl.compile/fifo.vvp" +seed="$DFM_PARAM_SEED" +fail_seed="$DFM_PARAM_FAIL_SEED" | tee sim.log
if grep -q '^ERROR' sim.log; then
  line=$(grep -n 'ERROR: cycle' "$DFM_SRCDIR/tb/fifo_tb.v" | head -1 | cut -d: -f1)
  grep '^ERROR' sim.log | head -3 | while read -r message; do
    dfm-out error "seed $DFM_PARAM_SEED: ${message#ERROR: }" --file "$DFM_SRCDIR/tb/fifo_tb.v" --line "$line"
  done
  exit 1
fi
words=$(sed -n 's/^RESULT .*words=\([0-9]*\) .*/\1/p' sim.log)
[ -n "$words" ] || { dfm-out error "seed $DFM_PARAM_SEED: the simulation did not end"; exit 1; }
dfm-out item --type rtl.SimResult seed:="$DFM_PARAM_SEED" words:="$words"
