# Completion of dfm for zsh: source <(dfm completion zsh)

# Print the tasks of the flow that is found from here: from the list, where no file of the flow is newer than it.
_dfm_tasks() {
  local directory="$PWD" name root="" list line
  while :; do
    for name in flow.dv flow.yaml flow.yml flow.toml; do
      if [[ -f "$directory/$name" ]]; then root="${directory%/}/$name"; break 2; fi
    done
    [[ -z "$directory" || "$directory" == / ]] && break
    directory="${directory%/*}"
  done
  list="${XDG_CACHE_HOME:-$HOME/.cache}/dfm/complete/${root//\//%}"
  if [[ -n "$root" && -z "$DFM_ROOT$DV_FLOW_ROOT" && -r "$list" ]]; then
    local -a names
    local fresh=1
    while IFS= read -r line; do
      if [[ "$line" == '#'* ]]; then
        if [[ ! -e "${line#\#}" || "${line#\#}" -nt "$list" ]]; then fresh=0; break; fi
      else
        names+=("$line")
      fi
    done < "$list"
    if ((fresh)); then print -rl -- "${names[@]}"; return; fi
  fi
  command dfm complete 2> /dev/null
}

_dfm_words() {
  local known=''
  case "$1" in
@WORDS@
  esac
  print -r -- "$known"
}

_dfm() {
  local command='' word index
  local -a candidates
  for ((index = 2; index < CURRENT; index++)); do
    word="${words[index]}"
    [[ "$word" == -* ]] && continue
    if [[ -z "$command" ]]; then command="$word"
    elif [[ "$command" == show ]]; then command="show $word"
    fi
  done
  case "${words[CURRENT - 1]}" in
    --root | -P | --param-file | -o | --output | --rundir) _files; return ;;
    -D | -c | --config | --runner | --runner-opt) return ;;
  esac
  if [[ "$PREFIX" != -* ]]; then
    case "$command" in
      run | graph | 'show task') candidates=(${(f)"$(_dfm_tasks)"}); compadd -a candidates; return ;;
      validate) _files; return ;;
    esac
  fi
  candidates=($(_dfm_words "$command"))
  compadd -a candidates
}

compdef _dfm dfm
