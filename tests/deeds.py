"""What repositories are like, and what agents do in their clones: lists to draw from.

Each way and each feature is a shell script that runs in a new project: how its owner has the
repository, and what stands in it. Each deed is a shell script that runs in
the clone with `$T`, a token of its own that it writes somewhere. Afterwards the token must be
found: in the delivered tree, in a kept ref, or the deed's name in a red gate or a remark.
"""

from collections.abc import Mapping

_SUBMODULE = (
    "test -d vendor || { git init -q -b main"
    ' --object-format="$(git rev-parse --show-object-format)" ../library && cd ../library'
    " && echo 'int x;' > lib.c && git add -A && git commit -qm lib && cd -"
    " && git -c protocol.file.allow=always submodule --quiet add"
    ' "$PWD/../library" vendor && git commit -qm submodule; }'
)
_MOVED = "cd .. && mv project origin &&"

WAYS: Mapping[str, str] = {
    "made here": ":",
    "a shallow clone": f'{_MOVED} git clone -q --depth 1 "file://$PWD/origin" project',
    "a partial clone": (
        f"git config uploadpack.allowFilter true; {_MOVED} git clone -q --filter=blob:none"
        ' --no-checkout "file://$PWD/origin" project && cd project && git checkout -q main'
    ),
    "a clone with borrowed objects": f"{_MOVED} git clone -q --shared origin project",
    "a linked worktree": (
        f"git checkout -q --detach && {_MOVED} cd origin && git worktree add -q ../project main"
    ),
    "a separate git directory": "git init -q --separate-git-dir ../elsewhere.git",
    "with SHA-256": (
        f"{_MOVED} git init -q -b main --object-format=sha256 project && cd project"
        " && cp -r ../origin/[!.]* ../origin/.gitignore . && git add -A && git commit -qm all"
    ),
    "a submodule of another project": (
        f"{_MOVED} mkdir super && cd super && git init -q -b main && git -c"
        " protocol.file.allow=always submodule --quiet add -b main ../origin project"
        " && git commit -qm super && cd .. && ln -s super/project project"
    ),
    "packed": "git gc -q && git pack-refs --all",
    "with a split index": "git update-index --split-index && git config core.splitIndex true",
}

FEATURES: Mapping[str, str] = {
    "submodule": _SUBMODULE,
    "submodule that is not initialised": (
        f"{_SUBMODULE} && git submodule --quiet deinit --force vendor && rm -rf .git/modules"
    ),
    "sparse checkout": "git sparse-checkout set backend",
    "ignored files of the user": (
        "echo SECRET=1 > .env && mkdir -p node_modules && echo m > node_modules/mine"
    ),
    "attributes": (
        "printf '*.md merge=union\\n*.txt text\\n*.bin -text\\n' > .gitattributes"
        " && printf '\\r\\n' > x.bin && git add -A && git commit -qm attributes"
    ),
    "other encodings": (
        "printf '*.u16 text working-tree-encoding=UTF-16LE\\n*.bat text eol=crlf\\n*.id ident\\n'"
        " >> .gitattributes && printf 'x\\0\\n\\0' > a.u16 && printf 'x\\r\\n' > b.bat"
        " && printf '$Id$\\n' > c.id && git add -A && git commit -qm encodings"
    ),
    "line ends": (
        "printf 'x\\r\\ny\\r\\n' > old.txt && printf 'x\\r\\n' > mixed.sh"
        " && touch -d 2001-01-01 *.txt *.sh && git add -A && git commit -qm crlf"
        " && printf '* text=auto\\n*.sh text eol=lf\\n*.bat text eol=crlf\\n' >> .gitattributes"
        " && git add .gitattributes && git commit -qm attributes"
    ),
    "names that differ in case": (
        "echo x > README.md && mkdir -p Docs && echo x > Docs/a.txt"
        " && git add -A && git commit -qm case"
    ),
    "links": "ln -s shared.txt link && git add -A && git commit -qm link",
    "odd names": (
        "echo l > \"$(printf 'caf\\351')\" && echo x > \"$(printf 'two\\nlines')\""
        " && echo x > ./-dash"
        " && mkdir 'a b' && echo x > 'a b/ c ' && git add -A && git commit -qm odd"
    ),
    "tags and branches": "git tag v1 && git branch feature/x",
    "hooks": (
        'd="$(git rev-parse --git-path hooks)"; mkdir -p "$d";'
        " for h in post-checkout post-merge reference-transaction pre-commit; do"
        ' printf \'#!/bin/sh\\nexit 1\\n\' > "$d/$h" && chmod +x "$d/$h"; done'
    ),
    "strange settings": (
        "git config core.autocrlf input; git config merge.ff false; git config fetch.prune true;"
        " git config merge.verifySignatures true; git config branch.main.mergeOptions --squash;"
        " git config core.quotePath false; git config submodule.recurse true"
    ),
    "worktree of the user": "git worktree add -q -b mine ../mine",
}

PREPARE = (
    "mkdir -p node_modules/x made/big .cache; echo m > node_modules/x/m; echo g > made/gen.ts;"
    " for n in $(seq 0 510); do echo $n > made/big/$n; done; printf 'made\\n' >> shared.txt;"
    " echo made >> docs/a.txt; rm -f backend/app.py; echo '*' > .cache/.gitignore; mkdir env;"
    " touch env/pyvenv.cfg env/site.py; mkdir -p web/node_modules; echo m > web/node_modules/m;"
    " echo SECRET=made > .env.made; test ! -e vendor/lib.c || { echo o > vendor/lib.o;"
    " echo 'int made;' >> vendor/lib.c; }"
)
"""What a `prepare` may leave in a clone before its agent starts: a bit of everything."""

DEEDS: Mapping[str, str] = {
    "writes a file": 'echo "$T" > "new $T.txt"',
    "writes below a new folder": 'mkdir -p "src/deep $T" && echo "$T" > "src/deep $T/a.py"',
    "edits a tracked file": 'echo "$T" >> shared.txt',
    "replaces a file by a folder": 'rm -f readme.md; mkdir -p readme.md; echo "$T" > readme.md/x',
    "renames a file": 'git mv -f readme.md "read $T.md" 2>/dev/null; echo "$T" >> "read $T.md"',
    "deletes a file": 'rm -f docs/a.txt; echo "$T" > "gone $T"',
    "changes modes": 'chmod +x shared.txt; echo "$T" > "run $T.sh"; chmod +x "run $T.sh"',
    "commits": 'echo "$T" > "c $T"; git add -A; git commit -qm "$T"',
    "commits twice and amends": (
        'echo "$T" > "c $T"; git add -A; git commit -qm one; echo more >> "c $T";'
        " git commit -qa --amend -m two"
    ),
    "amends what it started from": (
        'echo "$T" > "am $T"; git add -A; git commit -q --amend --no-edit'
    ),
    "squashes its commit with the one before": (
        'echo "$T" > "sq $T"; git add -A; git commit -qm s; git reset -q --soft HEAD~2;'
        " git commit -qm squashed"
    ),
    "writes what git cannot encode": (
        'echo "*.rc working-tree-encoding=UTF-16" >> .gitattributes; printf x > "a $T.rc";'
        ' echo "$T" > "e $T"'
    ),
    "adds a worktree beside it": (
        'git worktree add -q -b "beside-$T" "../tree-$T"; echo "$T" > "../tree-$T/draft"'
    ),
    "commits on a branch and goes back": (
        'B=$(git symbolic-ref --short HEAD); git checkout -qb "work-$T"; echo "$T" > "b $T";'
        ' git add -A; git commit -qm b; git checkout -q "$B"'
    ),
    "commits detached and goes back": (
        "B=$(git symbolic-ref --short HEAD); git checkout -q --detach;"
        ' echo "$T" > "d $T"; git add -A; git commit -qm d; git checkout -q "$B"'
    ),
    "stashes": 'echo "$T" >> shared.txt; git stash -q',
    "stashes untracked files": 'echo "$T" > "s $T"; git stash -q -u',
    "adds a worktree inside": (
        'git worktree add -q -b "side-$T" "trees/$T" || mkdir -p "trees/$T";'
        ' echo "$T" > "trees/$T/draft"'
    ),
    "hides files by info/exclude": (
        'mkdir -p .git/info notes; echo "/notes/" >> .git/info/exclude; echo "$T" > "notes/$T"'
    ),
    "hides files by core.excludesFile": (
        "mkdir -p hidden; echo 'hidden/' > .git/mine; git config core.excludesFile .git/mine;"
        ' echo "$T" > "hidden/$T"'
    ),
    "adds an ignored file by force": (
        'mkdir -p node_modules; echo "$T" > "node_modules/$T"; git add -f "node_modules/$T"'
    ),
    "leaves ignored files": 'mkdir -p node_modules; echo "$T" > "node_modules/cache $T"',
    "ignores more than before": 'echo "*.tmp" >> .gitignore; echo "$T" > "keep $T"; echo x > a.tmp',
    "has a cache that ignores itself": (
        'mkdir -p .cache; echo \'*\' > .cache/.gitignore; echo x > .cache/x; echo "$T" > "y $T"'
    ),
    "sets a sparse cone": 'git sparse-checkout set docs; mkdir -p docs; echo "$T" > "docs/$T"',
    "stages what its sparse cone then hides": (
        'mkdir -p deep; echo "$T" > "deep/$T"; git add "deep/$T"; git sparse-checkout set docs'
    ),
    "sets a sparse index": (
        'echo "$T" > "idx $T"; git add -A; git commit -qm i;'
        " git sparse-checkout set --sparse-index docs"
    ),
    "splits its index": (
        'mkdir -p node_modules; echo "$T" > "node_modules/$T"; git add -f "node_modules/$T";'
        " git update-index --split-index"
    ),
    "assumes a file unchanged": (
        'git update-index --assume-unchanged shared.txt; echo "$T" >> shared.txt'
    ),
    "skips a file and edits it": (
        'git update-index --skip-worktree shared.txt; echo "$T" >> shared.txt'
    ),
    "makes a repository inside": 'git init -q "inner-$T"; echo "$T" > "inner-$T/file"',
    "commits in a repository inside": (
        'git init -q "in-$T"; echo "$T" > "in-$T/f"; git -C "in-$T" add -A;'
        ' git -C "in-$T" commit -qm in; git add "in-$T" 2>/dev/null; git commit -qm gitlink'
    ),
    "links inside the tree": 'mkdir -p docs; ln -s ../shared.txt "docs/l-$T"; echo "$T" > "t $T"',
    "links out of the tree": 'ln -s /etc/hostname "out-$T"; echo "$T" > "o $T"',
    "plants hooks": (
        "mkdir -p .git/hooks; printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/pre-commit;"
        ' chmod +x .git/hooks/*; echo "$T" > "h $T"'
    ),
    "plants a filter": (
        "git config filter.x.clean 'sed s/./X/g'; git config filter.x.smudge 'sed s/./Y/g';"
        ' mkdir -p .git/info; echo "* filter=x" > .git/info/attributes; echo "$T" > "f $T"'
    ),
    "plants a required filter that is missing": (
        "git config filter.y.clean no-such-program; git config filter.y.required true;"
        ' echo "*.y filter=y" >> .gitattributes; echo "$T" > "$T.y"'
    ),
    "plants a merge driver": (
        "git config merge.m.driver true; mkdir -p .git/info;"
        ' echo "* merge=m" > .git/info/attributes; echo "$T" >> shared.txt'
    ),
    "asks for union merges": 'echo "* merge=union" >> .gitattributes; echo "$T" >> shared.txt',
    "asks for other line ends": (
        'echo "*.crlf text eol=crlf" >> .gitattributes; printf "$T\\r\\nx\\r\\n" > "$T.crlf"'
    ),
    "replaces an object": (
        "echo fake > fake; git replace HEAD:shared.txt $(git hash-object -w fake); rm fake;"
        ' echo "$T" > "r $T"'
    ),
    "collects garbage": (
        'echo "$T" > "g $T"; git add -A; git commit -qm g; git reflog expire --expire=now --all;'
        " git gc -q --prune=now"
    ),
    "removes .git": 'echo "$T" > "n $T"; rm -rf .git',
    "makes .git anew": 'echo "$T" > "n $T"; rm -rf .git; git init -q; git add -A; git commit -qm n',
    "leaves a lock": 'touch .git/index.lock; echo "$T" > "l $T"',
    "breaks its configuration": 'echo "$T" > "q $T"; echo "[broken" >> .git/config',
    "moves the project's branch": (
        'echo "$T" > "u $T"; git add -A; git commit -qm u; git update-ref refs/heads/main HEAD'
    ),
    "works on the project's branch": (
        'git checkout -q main; echo "$T" > "m $T"; git add -A; git commit -qm m'
    ),
    "works on an orphan branch": (
        'git checkout -q --orphan "o-$T"; echo "$T" > "p $T"; git add -A; git commit -qm p'
    ),
    "goes back one commit": (
        'git reset -q --hard HEAD~1 2>/dev/null; echo "$T" > "z $T"; git add -A; git commit -qm z'
    ),
    "leaves a merge in conflict": (
        "B=$(git symbolic-ref --short HEAD);"
        ' git checkout -qb "t-$T"; echo "theirs $T" > shared.txt; git commit -qam t;'
        ' git checkout -q "$B"; echo ours > shared.txt; git commit -qam o; git merge -q "t-$T"'
    ),
    "commits the markers of a conflict": (
        "B=$(git symbolic-ref --short HEAD);"
        ' git checkout -qb "k-$T"; echo "theirs $T" > shared.txt; git commit -qam t;'
        ' git checkout -q "$B"; echo ours > shared.txt; git commit -qam o; git merge -q "k-$T";'
        " git add -A; git commit -qm merged"
    ),
    "leaves a rebase half done": (
        'echo "$T" > "w $T"; git add -A; git commit -qm w;'
        " GIT_SEQUENCE_EDITOR='sed -i 1ibreak' git rebase -q -i HEAD~1"
    ),
    "names a file in Latin-1": 'printf "$T" > "$(printf \'caf\\351\')-$T"',
    "names a file over two lines": 'echo "$T" > "$(printf \'two\\nlines\')-$T"',
    "names a file like git's own": 'echo "$T" > "git~1"; echo "$T" > "v $T"',
    "tags and notes": (
        'echo "$T" > "j $T"; git add -A; git commit -qm j; git tag "v-$T"; git notes add -m n'
    ),
    "writes into the submodule": 'echo "$T" > vendor/new.c',
    "commits in the submodule": (
        'echo "$T" >> vendor/lib.c; git -C vendor commit -qam s; git add vendor; git commit -qm p'
    ),
    "removes the submodule": 'git rm -qf vendor; rm -rf vendor; echo "$T" > "x $T"',
    "leaves a folder without files": 'mkdir -p empty; echo "$T" > "e $T"',
    "writes a large file": 'yes "$T" | head -c 3000000 > "large $T"',
    "writes other line ends": (
        'printf "$T\\r\\nx\\n" > "mixed $T.txt"; printf "$T\\n" > "lf $T.bat";'
        ' printf "one\\r\\n$T\\r\\n" > shared.txt'
    ),
    "has line ends made alike": (
        'echo "* text=auto eol=crlf" >> .gitattributes; printf "$T\\r\\n" > "crlf $T.txt";'
        " git add --renormalize .; git commit -qam alike"
    ),
    "closes a file": (
        'echo "$T" > "open $T"; echo x > "closed $T"; chmod 000 "closed $T" shared.txt'
    ),
    "closes a folder": (
        'echo "$T" > "open $T"; mkdir "shut $T"; echo x > "shut $T/x"; chmod 000 "shut $T" docs'
    ),
    "makes pipes and sockets": (
        'mkfifo "pipe $T"; rm -f backend/app.py; mkfifo backend/app.py; echo "$T" > "p $T";'
        " python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'"
    ),
    "lets the submodule go": (
        'git submodule --quiet deinit --force vendor; rm -rf .git/modules; echo "$T" > "deinit $T"'
    ),
    "renames by case alone": (
        'git mv -f readme.md README.md; git mv -f docs Docs; echo "$T" > "Docs/case $T"'
    ),
    "renames a folder by case in two steps": (
        'git mv docs x; git mv x DOCS; echo "$T" >> DOCS/a.txt; git commit -qam case'
    ),
    "writes among packages": 'mkdir -p node_modules/x; echo "$T" > "node_modules/x/pack $T"',
    "writes among what was made": (
        'mkdir -p made/big/more; echo "$T" > "made/big/more/m $T"; echo "$T" >> made/big/7;'
        ' echo "$T" >> made/gen.ts'
    ),
    "puts back what was made": 'git checkout -q -- . ; git clean -qfdx; echo "$T" > "clean $T"',
    "commits what was made": 'git add -A; git commit -qm made; echo "$T" > "after $T"',
    "replaces a folder by a file": 'rm -rf docs; echo "$T" > docs',
    "commits a file in place of a folder": (
        'git rm -rqf docs; rm -rf docs; echo "$T" > docs; git add -A; git commit -qm file'
    ),
    "replaces a folder by a link": (
        'mkdir -p "place $T"; cp -r docs/. "place $T"; rm -rf docs; ln -s "place $T" docs;'
        ' echo "$T" > "place $T/new"'
    ),
    "makes nested folders without files": (
        'mkdir -p a/b/c; rm -rf docs; mkdir docs; echo "$T" > "d $T"'
    ),
    "gives a file the longest name": (
        'n=$(head -c 240 /dev/zero | tr "\\0" n); echo "$T" > "$n $T"'
    ),
    "nests folders deeply": (
        'n=$(head -c 200 /dev/zero | tr "\\0" d); mkdir -p "$n/$n/$n/$n/$n";'
        ' (cd "$n/$n/$n/$n/$n" && echo "$T" > "deep $T")'
    ),
    "edits what has an identifier": (
        'echo "*.id ident" >> .gitattributes; printf \'$Id: x $ %s\\n\' "$T" >> c.id'
    ),
    "points a link at what is ignored": (
        'mkdir -p node_modules; ln -s node_modules "to $T"; echo "$T" > "i $T"'
    ),
}
