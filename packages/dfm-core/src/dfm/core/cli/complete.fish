# Completion of dfm for fish: dfm completion fish | source

# Print the tasks of the flow that is found from here: from the list, where no file of the flow is newer than it.
function __dfm_tasks
    set -l directory $PWD
    set -l root ''
    while test -n "$directory"
        for name in flow.dv flow.yaml flow.yml flow.toml
            if test -f "$directory/$name"
                set root "$directory/$name"
                break
            end
        end
        test -n "$root"; and break
        set directory (string replace -r '/[^/]*$' '' -- $directory)
    end
    set -l cache $XDG_CACHE_HOME
    test -n "$cache"; or set cache $HOME/.cache
    set -l list $cache/dfm/complete/(string replace -a / % -- $root)
    if test -n "$root" -a -z "$DFM_ROOT$DV_FLOW_ROOT" -a -r "$list"
        set -l names
        set -l fresh 1
        while read -l line
            if string match -q '#*' -- $line
                set -l file (string sub -s 2 -- $line)
                if not test -e "$file"; or test "$file" -nt "$list"
                    set fresh 0
                    break
                end
            else
                set -a names $line
            end
        end <$list
        if test $fresh = 1
            printf '%s\n' $names
            return
        end
    end
    command dfm complete 2>/dev/null
end

function __dfm_words
    switch "$argv"
@WORDS@
    end | string split ' '
end

function __dfm_candidates
    set -l command
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; and continue
        if test (count $command) -eq 0; or test "$command" = show
            set -a command $word
        end
    end
    if not string match -q -- '-*' (commandline -ct)
        switch "$command"
            case run graph 'show task'
                __dfm_tasks
                return
        end
    end
    __dfm_words "$command"
end

complete -c dfm -f -a '(__dfm_candidates)'
complete -c dfm -n 'string match -qr -- "^(--root|-P|--param-file|-o|--output|--rundir)\$" (commandline -opc)[-1]' -F
