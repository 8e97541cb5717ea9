#!/bin/sh
# apt as cells call it: what would change the system can't be done by a kernel, so it is said how else.
name=${0##*/}
for word in "$@"; do
    case $word in
        install | reinstall | update | upgrade | full-upgrade | dist-upgrade | remove | purge | autoremove | build-dep)
            echo "tfgpu: a kernel is no administrator, so $name can't $word here; name system_packages in the kernel's" \
                "settings (jupyter tfgpu install --system-packages NAME …), and start it again." >&2
            exit 100
            ;;
    esac
done
exec "/usr/bin/$name" "$@"
