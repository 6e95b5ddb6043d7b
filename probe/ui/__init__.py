"""`probe label`: a local web page to mark objects, choose exemplars and play with units; needs the extra `[ui]`.

    server.py      binds to this machine only, prints the address
    guard.py       who may talk to it: a token, this host, this origin
    marks.py       the labels, changed by several tabs at once, saved at every change
    picks.py       the exemplars, likewise
    workbench.py   the model behind the page: samples, feature maps, one thread at a time
    suggest.py     boxes proposed, samples ordered by how unsure they are
    preview.py     forgetting in seconds, without adjusting and without controls
    painter.py     units as heat maps, switched off or on
    desk.py        what all tabs of the browser share
    page.py        what the browser shows: label_part, exemplar_part, unit_part, with the components of web/

Nothing else in probe imports this package.
"""
