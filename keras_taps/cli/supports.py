"""`keras-taps supports`: what can be verified, in the words of the VNN-LIB standard."""

import typer

NAME = "supports"


def _option(name, what):
    return typer.Option(False, f"--{name}", help=what)


def run(
    onnx_operators: bool = _option("onnx-operators", "Operators of ONNX."),
    onnx_opset_versions: bool = _option("onnx-opset-versions", "Oldest and newest opset."),
    onnx_element_types: bool = _option("onnx-element-types", "Types whose arithmetic is decided."),
    vnnlib_versions: bool = _option("vnnlib-versions", "Oldest and newest version."),
    hidden_node_theories: bool = _option("hidden-node-theories", "NH: no hidden nodes."),
    multiple_input_output_theories: bool = _option(
        "multiple-input-output-theories", "SIO: one input and one output."
    ),
    multiple_network_theories: bool = _option("multiple-network-theories", "SNET: one network."),
    multiple_node_comparison_theories: bool = _option(
        "multiple-node-comparison-theories", "SNC: no comparison of inputs with outputs."
    ),
    arithmetic_complexity_theories: bool = _option(
        "arithmetic-complexity-theories", "BND, OUTC: bounds of inputs, comparisons of outputs."
    ),
    optimised_disjunctive_reasoning: bool = _option(
        "optimised-disjunctive-reasoning", "false: queries are taken apart into disjuncts."
    ),
    serialise_assignments: bool = _option("serialise-assignments", "true: verify has the option."),
    unsat_proofs: bool = _option("unsat-proofs", "false: verify writes no proofs of the standard."),
):
    """Print what can be verified, one capability of the VNN-LIB standard.

    Example: `keras-taps supports --onnx-operators`
    """
    asked = [name for name, wanted in locals().items() if wanted]
    if len(asked) != 1:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in asked) or "none"
        raise ValueError(f"Ask for one capability, such as --onnx-operators. Received: {given}")
    print("\n".join(_capabilities()[asked[0]]))


def _capabilities():
    from keras_taps.verification.formats.onnx_reader import NEWEST_OPSET, OLDEST_OPSET
    from keras_taps.verification.formats.onnx_values import LAYOUT, OPS

    return {
        "onnx_operators": sorted((*OPS, *LAYOUT)),
        "onnx_opset_versions": [str(OLDEST_OPSET), str(NEWEST_OPSET)],
        "onnx_element_types": ["real"],  # proofs are about real arithmetic
        "vnnlib_versions": ["1.0", "2.0"],
        "hidden_node_theories": ["NH"],
        "multiple_input_output_theories": ["SIO"],
        "multiple_network_theories": ["SNET"],
        "multiple_node_comparison_theories": ["SNC"],
        "arithmetic_complexity_theories": ["BND", "OUTC"],  # and LIN over outputs
        "optimised_disjunctive_reasoning": ["false"],
        "serialise_assignments": ["true"],
        "unsat_proofs": ["false"],
    }
