"""napari_sam and the reference implementations, measured side by side.

=====================  ===========================================================
`command`              the command line, and the order of things
`contest`              what a work is: sides that run in turns, and a check
`decoder_works`        `click`, `boxes`
`everything_works`     `everything-sparse`, `everything-all`
`encoder_works`        `vit_b`, `vit_t`
`compact_works`        `compact-embedding`, `compact-click`
`scales`               how large the models and images are
`random_models`        our models and the references, with the same random weights
`peers`                the model of `transformers`, a second independent implementation
`timing`, `memory`     seconds in turns; peak memory in processes of their own
`equality`             whether two results are the same
`flops`, `ceilings`    what a work computes, and what this machine could at best
`shares`               what each choice of `napari_sam.model.execution` brings
`report`, `plot`       table, JSON, Markdown, bar chart
=====================  ===========================================================
"""
