# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for virtspool(1). Commands and options with their descriptions come from --help, ids and names from the
# spool, as far as the user may read it.

function __virtspool_commands
    virtspool --help 2>/dev/null | string replace -rf '^  ([a-z]+) +(.*)$' '$1\t$2'
end

function __virtspool_options
    virtspool $argv[1] --help 2>/dev/null | string replace -rf '^  (?:-.,|   ) (--[a-z0-9-]+)\S*\s*(.*)$' '$1\t$2'
end

function __virtspool_ids
    virtspool list --json -n 2000 $argv 2>/dev/null | string replace -rf '^{"(?:id|file)":"([A-Za-z0-9._-]*)".*$' '$1'
end

function __virtspool_names
    virtspool list --json -n 500 2>/dev/null | string replace -rf '^.*"name":"([A-Za-z0-9._-]*)".*$' '$1' | sort -u
end

function __virtspool_complete
    set -l words (commandline -opc)
    set -l previous $words[-1]
    set -l command
    set -l from
    for i in (seq 2 (count $words))
        if test -z "$command"; and not string match -q -- '-*' $words[$i]
            set command $words[$i]
        end
        if test $words[$i] = --from; and set -q words[(math $i + 1)]
            set from $words[(math $i + 1)]
        end
    end
    if test -z "$command"
        __virtspool_commands
        printf '%s\n' --help --version
        return
    end

    switch $command:$previous
        case '*:--config' '*:-c' '*:--hook' '*:--cafile' '*:--cert' '*:--key' '*:--password-file'
            __fish_complete_path (commandline -ct)
            return
        case '*:--hooksdir'
            __fish_complete_directories (commandline -ct)
            return
        case 'watch:--vm' 'watch:-v' 'watch:-n' 'watch:--host' 'watch:--id' 'watch:--username' 'watch:--broker' 'watch:--port' 'watch:-[hipu]' 'list:-n'
            return
        case 'watch:--protocol-version'
            printf '%s\n' 5 311
            return
        case '*:--vm' '*:-v'
            __virtspool_names
            return
        case '*:--op' '*:-o'
            printf '%s\n' prepare start started stopped release migrate restore reconnect attach
            return
        case '*:--driver'
            printf '%s\n' qemu lxc libxl bhyve network daemon
            return
        case '*:--since' '*:--until' '*:--older-than'
            printf '%s\n' today yesterday 1h 2h 1d 7d
            return
        case 'replay:--from'
            printf '%s\n' sent failed skipped
            return
        case 'drop:--from'
            printf '%s\n' new failed replay emergency
            return
        case 'purge:--from'
            printf '%s\n' sent skipped
            return
        case '*:--limit' '*:--rate' '*:--keep' '*:--timeout' '*:-t' '*:--topic' '*:--count'
            return
    end

    if string match -q -- '-*' (commandline -ct)
        __virtspool_options $command
        return
    end
    switch $command
        case list
            printf '%s\n' new sent failed skipped replay emergency all
        case hooks
            printf '%s\n' install remove status qemu lxc libxl bhyve network daemon
        case join
            __fish_complete_path (commandline -ct)
        case show
            __virtspool_ids
        case replay
            test -n "$from"; or set from sent
            __virtspool_ids $from
        case drop
            test -n "$from"; or set from failed
            __virtspool_ids $from
    end
end

complete -c virtspool -f -k -a '(__virtspool_complete)'
