# program_rules.py -- what tells the language of a source file, for programs.py.
#
# Regular expressions, in which ^ and $ stand for the ends of a line.
#
# SPDX-License-Identifier: MIT

# Two lines that end with a semicolon.
SEMICOLONS = r";\s*$.*\n.*;\s*$"

CPP = (
    r"^\s*(template\s*<|namespace\s+\w|using\s+namespace|class\s+\w+[^;]*$)|\w::\w|"
    r"^\s*(public|private|protected):|\b(static|const|dynamic)_cast<|"
    r"\bnew \w+[(;\[]|^\s*#\s*include\s*<\w+>|\bnullptr\b|^\s*constexpr\b"
)
TYPES = r"string|number|boolean|any|void|never|unknown"
DECLARATION = (
    r"^\s*(export )?(declare )?(interface|namespace|type|enum|module|abstract class) "
    r"\w+"
)
SQL = (
    r"(?i)^\s*(create (or replace |temp |temporary |unique )?(table|view|function|"
    r"index|type|trigger|rule|operator|extension|role|schema)|select\b|insert into|"
    r"update \w+ set|alter table|drop table|delete from)\b"
)

# Of languages without a label.
OTHERS = (
    r"^\s*(Lemma|Theorem|Fixpoint|Inductive|Goal|Require (Import|Export))\b|"
    r"^\(\*\s+v\s+\*|^\s*(Proof|Qed|Defined)\.",  # Coq
    r"[∀ℕ]|^\{-# OPTIONS --|^\s*postulate\b",  # Agda
    r"^:-",  # Prolog
    r'^discard """|\bproc \w+\*?(\[.*\])?\(.*=\s*$',  # Nim
    r"[gG]roovy",
    r"^\" |^fu(nc|nction)!? .*\)\s*$|^endfu|^let [gsabl]:",  # Vim
    r"(?i)\blibrary ieee|^\s*(entity|architecture) \w+ (is|of)\b",  # VHDL
    r"^syntax = \"proto|^option \w+ = |^message \w+ \{",  # Protocol Buffers
    r"^module [\w.]+;|^import (core|std)\.|\b__traits\b",  # D
    r"^using GLib;|\bowned\b.*[({]",  # Vala
    r"^@(interface|implementation|protocol)\b",  # Objective-C
    r"^proc \w+ \{|^package require ",  # Tcl
    r"^#lang |^\((module|define) |^\(in-package|^\(defpackage",  # Lisps
    r"\bcdef\b|^%%\s*$|^\s*%\}",  # Cython, Yacc
    r"^////",  # tests of an editor
)

# Label: all of these are found, and none of these is.
RULES = {
    "asm": (
        (
            r"^\s*\.(globl|global|text|section|type|align|macro|extern)\b|"
            r"^\s*(section|global|extern|bits|%macro|%define|%include|segment|BITS|"
            r"SECTION)\b",
            r"^\s*[a-zA-Z]{2,8}[ \t]+[%$\w\[(#].*,.*$",
        ),
        (
            r"[{};]\s*$.*\n.*[{};]\s*$|\bint \w+\(|^extern \"C\"|^(typedef|struct)\b",
            r"^\s*(def|class|import|my)\b",
        ),
    ),
    "c": ((r"^\s*#\s*include\s*[<\"]", r";\s*$"), (CPP,)),
    "cmake": (
        (
            r"^\s*(cmake_minimum_required|add_\w+|set|target_\w+|if|include|install|"
            r"find_\w+|foreach|macro|function|configure_file|list|string)\s*\(",
            r"\$\{\w+\}|^\s*(add_\w+|target_\w+|endif|endfunction|endmacro|include)"
            r"\s*\(",
        ),
        (r"[{};]\s*$", r"\A#!"),
    ),
    "cpp": (
        (r"^\s*#\s*(include|ifndef|pragma)\b", CPP, r";\s*$"),
        (r'^\s*extern "C"',),
    ),
    "css": (
        (r"^[^{}\n;]*\{\s*$", r"^\s+[a-z-]+:\s*[^;{}]+;\s*$"),
        (
            r"<\w+|\$\w+:|@mixin|@include",
            r"\b(function|var|const|let|return|if|int|class|module|static|case|struct)"
            r"\b",
            r"^\s*(#include|package|import)\b",
        ),
    ),
    "elisp": (
        (
            r"^\(def(un|var|custom|const|macro|subst|face|group|ine-\w+|alias)\b",
            r"\(setq\b|\(defun\b|interactive|\(provide '|\(require '|-mode\b",
        ),
        (),
    ),
    "elixir": ((r"^\s*defmodule [\w.]+ do\s*$",), ()),
    "erlang": ((r"^-module\(", r"->"), ()),
    "fortran": (
        (
            r"(?i)^\s+(subroutine|program|.*\bfunction) \w+|^(subroutine|program) \w+",
            r"(?i)^\s*(implicit none|(integer|real|logical|double precision|"
            r"complex\*?\d*|character)\b.*(::|\s\w))",
        ),
        (r"[;{}]\s*$", r"^\s*(def|class|require|import|from|let) "),
    ),
    "go": (
        (r"^package \w+\s*$", r"^(func|import|type|var|const)\b"),
        (SEMICOLONS, r"^object |^trait |^class "),
    ),
    "haskell": (
        (
            r"^(module [A-Z][\w.]*|import +(qualified +)?[A-Z][\w.]*|main *::)",
            r"^\s*\w+('*)( |\n)*::|^\w+.* = ",
        ),
        (SEMICOLONS, r"^open\b", r"^\s*(def|end)\b", r"^import .*;"),
    ),
    "html": (
        (r"(?i)\A\s*(<\?xml[^>]*>\s*)?<(!doctype html|html)\b",),
        (r"<%|<\?php|\{%",),
    ),
    "java": (
        (r"^(package|import) [\w.]+(\.\*)?;", r"\b(class|interface|enum) \w+"),
        (r"\bdef \w+", r"^using "),
    ),
    "javascript": (
        (
            r"\b(function ?\w*\s*\(|const \w+ =|let \w+ =|var \w+|=> ?[{(\w])|"
            r"\brequire\(",
            r"[;{]\s*$",
        ),
        (
            r":\s*(" + TYPES + r")\b\s*[;,)=|{\[]",
            DECLARATION,
            r"^\s*#(?!!)|<\?|::|^using |^package ",
            r"\b(val|fun|def|func|fn|let mut|int|char|unsigned|end|begin|local|void|"
            r"String|proc|sub|my) [\w$]+",
            r"\bas (any|string|const)\b|\b(private|public|protected|readonly) \w+",
            r"^\s*<(html|script|!)|\w<[A-Z]\w*>|^// ?@\w+:",
        ),
    ),
    "kotlin": (
        (
            r"\bfun (<.*?> ?)?[\w.<>`]+\(",
            r"\b(val|var|class|object|interface|return)\b",
        ),
        (SEMICOLONS, r"\bdef \w+", r"^\s*val .* = fn\b|\bfun .*->"),
    ),
    "lua": (
        (r"^\s*local (function )?\w+", r"^\s*end\b"),
        (r"^\s*(fi|esac|done|class)\b", r"\$\w", r"[;{]\s*$.*\n.*[;{]\s*$"),
    ),
    "make": (
        (
            r"^[\w.$()/%-]+( [\w.$()/%-]+)*\s*::?( |$)(?!=)|^[\w-]+\s*[:+?]?=",
            r"^\t\S|\$\(\w+\)",
        ),
        (
            r"\A#!|[{};]\s*$|^#include",
            r"^\s*(def|import|class|function|local|if \[)\b",
        ),
    ),
    "ocaml": (
        (
            r"^\s*(let|val|open|type|module|exception|external) [\w(]",
            r"^\s*\| |;;|\blet \w+ .*= |\bin\s*$|->|^val \w+ :",
        ),
        (
            r"\bfun \w+\(|\blet mut\b|\bfn \w+",
            r"^module .* where|^import\b|^\s*#include|^\s*\\begin",
            r"\b(const|var|function \w*\(|return|def) ",
            r"^\s*(where|data|instance|class|record|proc|defmodule)\b.*(:|do)?$",
        ),
    ),
    "pascal": (
        (
            r"(?im)^\s*(unit|program)\s+\w+\s*;",
            r"(?i)\b(begin|end|procedure|function|uses|var)\b",
        ),
        (),
    ),
    "perl": (
        (r"\A#!.*\bperl|^use (strict|warnings)\b|^package [\w:]+;", r"\bmy [$@%(]"),
        (),
    ),
    "php": ((r"\A\s*<\?php",), (r"<html|</div>",)),
    "python": (
        (
            r"^\s*(def \w+\(.*|class \w+.*:|import \w[\w.]*|from \S+ import .*)",
            r":\s*$",
        ),
        (
            SEMICOLONS,
            r"^\s*(end\s*$|\}|proc |func |function |type )|^\{",
            r"\b(let|var|val) \w+",
        ),
    ),
    "r": (
        (r"<-\s*(function\b)?", r"\bfunction\s*\(|\blibrary\(|\bc\("),
        (
            SEMICOLONS,
            r"\bfun \w|^\s*(def|val|var|object|class|import|chan)\b",
            r"::=|:-|\bgo func|\bdo\s*$|^module|^func ",
        ),
    ),
    "ruby": (
        (
            r"^\s*end\s*$",
            r"^\s*(def |class |module |require |describe |assert|it )",
        ),
        (
            r"\b(local|begin|procedure|proc) \w|^\s*(fn|function)\b|^\s*end;",
            r"\b(endfunction|endmodule|endclass|defmodule)\b|^-module",
            r"^import |^open |\bwhere\s*$|<%|\binherit\b|^\(\*",
            r"(?i)^\s*(subroutine|implicit none|call \w+)",
        ),
    ),
    "rust": (
        (
            r"^\s*(pub(\([a-z]+\))? |unsafe |const |async )*fn \w+",
            r"\blet (mut )?\w+|\bimpl\b|->|^use |!\(",
        ),
        (r"^\s*func ", r"^package "),
    ),
    "scala": (
        (
            r"\bdef \w+",
            r"^\s*(package|import|trait|object|case class|class|abstract class) ?"
            r"[\w.{]",
            r"\b(val|object|trait|case class)\b|: \w+(\[.*\])? =|=>",
        ),
        (
            SEMICOLONS,
            r"^\s*end\s*$|^\s*def .*:\s*$|\bfun |^func |:=|\bvoid\b",
            r"\bdef \w+ = (new|\[|\"\"\")",
        ),
    ),
    "shell": (
        (r"\A#!\s*/(usr/)?bin/(env )?(ba|da|k|z)?sh\b",),
        (r"^\s*exec (perl|tclsh|wish|python|guile|scheme)",),
    ),
    "sql": (
        (SQL, r";\s*$"),
        (
            r"\b(#include|int main|function \w+\(|my \$|var |const |def |class |static|"
            r"printf)\b",
            r"<\?php|\A#!|^\s*[{}]\s*;?\s*$|^\S+\.\S+\(",
            r"^(proc|set|do_execsql_test|do_test)\b",
        ),
    ),
    "typescript": (
        (
            r":\s*(" + TYPES + r"|[A-Z]\w*(<.*>)?(\[\])?)\s*[;,)=|{]|"
            + DECLARATION
            + r"[^;]*[{=]",
        ),
        (
            r"^\s*#|^package |::|^using |\bfn \w|\bprocedure\b|\bunit \w+;|\$\w+->|<\?",
            r"\b(val|fun|def|func|fn|let mut|int|char|unsigned|function begin) \w+",
            r"^\s*end\b|^import \S+;\s*$|\bpublic (static )?(class|void|final)\b",
            r"^\(\*|^%|^--|^\{-|^-module|^\s*[A-Za-z]+-[a-zA-Z-]+\s*:",
            r"^\s*(proc|case \w+ of)\b|^\s*<html|->",
        ),
    ),
    "verilog": (
        (
            r"^\s*(module|`include|`define|`ifdef|interface|class|package|program)\b",
            r"\b(endmodule|endclass|endpackage|endinterface|endprogram)\b",
            r"\b(input|output|wire|reg|logic|always|initial|assign|int|bit|parameter)"
            r"\b",
        ),
        (),
    ),
}

# What examples in manuals are called.
EXAMPLES = {
    **{label: label for label in RULES if label != "make"},
    **{"js": "javascript", "js-nolint": "javascript", "mjs": "javascript"},
    **{"cjs": "javascript", "jsx": "javascript", "ts": "typescript"},
    **{"tsx": "typescript", "c++": "cpp", "rs": "rust", "py": "python"},
    **{"bash": "shell", "sh": "shell", "makefile": "make"},
}
