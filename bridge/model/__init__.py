"""The words: frozen values, no I/O, no await, nothing of ours imported from above.

Commands come in, results go out; events go out, actions come in. The structs here are the one source of the JSON
Schemas (`callbridge schema`) and of the documents made from them.
"""
