# Completion of dfm for bash: source <(dfm completion bash)

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
    local names=() fresh=1
    while IFS= read -r line; do
      if [[ "$line" == '#'* ]]; then
        if [[ ! -e "${line#\#}" || "${line#\#}" -nt "$list" ]]; then fresh=0; break; fi
      else
        names+=("$line")
      fi
    done < "$list"
    if ((fresh)); then printf '%s\n' "${names[@]}"; return; fi
  fi
  command dfm complete 2> /dev/null
}

_dfm_words() {
  local known=''
  case "$1" in
@WORDS@
  esac
  printf '%s' "${known// /$'\n'}"
}

_dfm() {
  local current="${COMP_WORDS[COMP_CWORD]}" command='' index word
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${COMP_WORDS[index]}"
    [[ "$word" == -* ]] && continue
    if [[ -z "$command" ]]; then command="$word"
    elif [[ "$command" == show ]]; then command="show $word"
    fi
  done
  case "${COMP_WORDS[COMP_CWORD - 1]}" in
    --root | -P | --param-file | -o | --output | --rundir) compopt -o default; return ;;
    -D | -c | --config | --runner | --runner-opt) return ;;
  esac
  local source=_dfm_words
  if [[ "$current" != -* ]]; then
    case "$command" in
      run | graph | 'show task') source=_dfm_tasks ;;
      validate) compopt -o default; return ;;
    esac
  fi
  while IFS= read -r word; do
    [[ "$word" == "$current"* ]] && COMPREPLY+=("$(printf '%q' "$word")")
  done < <("$source" "$command")
}

complete -F _dfm dfm
