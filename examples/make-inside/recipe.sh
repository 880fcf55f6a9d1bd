# recipe.sh COUNTER NAME: be counted for a while; a directory for each running recipe is the counter.
mkdir -p "$1"
me=$(mktemp -d "$1/XXXXXX")
ls "$1" | wc -l >> peaks
sleep 0.1
ls "$1" | wc -l >> peaks
rmdir "$me"
touch "$2"
