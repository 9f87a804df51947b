"""Names that mean harm to DOT, XML, HTML, mathtext, terminals and whoever reads them."""

HOSTILE = [
    "<script>alert(1)</script>", "<b>bold</b>", "</text><a href='x'>", '"quoted"', "it's", "back\\slash",
    "ends with \\", "\\", "\\\\", "\\N", "\\G \\E \\T \\H \\L", "left\\l right\\r", "nul\0nul",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "bell\x07", "line\nline", "line\r\nline", "\t",
    "\u2028\u2029\x85\x0b\x0c", "&lt;", "&#0;", "&#x1b;", "&amp;amp;", "&nbsp;&unknown;", "&", "<", ">", "<>",
    "<<TABLE>", "<<b>x</b>>", "<I></B>", "\ud800", "\udfff\ud800", "\u202eabc\u202c", "\u2066\u2069",
    "\u200b\u200d\ufeff", "e\u0301\u0327" + "\u0300" * 50, "x" * 100_000, "\\" * 100_000, "&lt;" * 30_000,
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\ufffe\uffff\ufdd0", "\ue000", "node", "graph",
    "strict", "digraph", "edge", "subgraph", "a;b", "{a|b}", "}", "]; n9 -> n8 [label=x", "a:b:c", "n0:n:s", "a->b",
    "a--b", "1e5", "-.5", "0x10", "#comment", "//comment", "/*comment*/", "URL=javascript:alert(1)",
    "href=\"javascript:alert(1)\"", "javascript:alert(1)", "http://example.org/x.png", "onload=alert(1)",
    "' onload='alert(1)", "<!--", "-->", "]]>", "<![CDATA[", "<?xml?>",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>", "&y;", "$x^2$", "$\\bad{$", "$\\frac{", "a$b", "_hidden",
    "%n%s", "{0}", "", " ", "\xa0", "\u0627\u0644\u0639", "\u4e2d\u6587", "label", "\\x3c", "%3Cscript%3E", "\u2215",
]  # fmt: skip
