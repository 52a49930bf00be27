"""The tables of a run's DuckDB file, as a numbered history. Users query these with SQL: see docs/schema.md.

Append to MIGRATIONS; never edit an entry that has been released. Columns of `features` that have come since stand in
`correlation.feature_columns` alone; `database.migrate` adds those that a file lacks.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        run VARCHAR PRIMARY KEY,    -- name of the run
        created TIMESTAMP,          -- UTC
        config JSON,                -- everything that defines the run
        batch_size INTEGER          -- prompts per batch, fixed at the start so that a resumed run has the same batches
    );
    CREATE TABLE samples (
        run VARCHAR,
        sample VARCHAR,             -- id of the task's item
        split VARCHAR,              -- train, validation or test
        prompt VARCHAR,             -- the item's text, before chat template and examples
        target VARCHAR,             -- right answer; NULL where the task needs none
        output VARCHAR,             -- what the unsteered model wrote; NULL until collected
        outcome DOUBLE,             -- the scorer's verdict in [0, 1]; NULL until collected
        tokens INTEGER,             -- generated tokens, the end token included; NULL until collected
        item JSON,                  -- the task's item, whole
        UNIQUE (run, sample)
    );
    CREATE TABLE activations (
        run VARCHAR,
        sample VARCHAR,
        layer SMALLINT,
        feature INTEGER,
        value FLOAT                 -- pooled activation z; silent features are absent
    );
    CREATE TABLE features (
        run VARCHAR,
        layer SMALLINT,
        feature INTEGER,
        r DOUBLE,                   -- Pearson correlation of z and outcome over training samples; NULL if undefined
        coefficient DOUBLE,         -- mean of z over training samples with outcome > 0
        support INTEGER,            -- training samples in which the feature fired
        frequency DOUBLE,           -- support / training samples
        frequency_correct DOUBLE,   -- share of the training samples with outcome > 0.5 in which it fired
        frequency_incorrect DOUBLE, -- the same for the others
        p DOUBLE,                   -- two-sided p-value of r (t distribution); NULL if undefined or below the floor
        q DOUBLE                    -- Benjamini-Hochberg over all features of the run that reach the floor
    );
    CREATE TABLE fits (
        run VARCHAR PRIMARY KEY,
        samples INTEGER,            -- training samples
        success_rate DOUBLE,        -- mean outcome of the training samples
        constant BOOLEAN,           -- the outcome never changes: no correlation is defined
        floor INTEGER,              -- least support of a feature that is ranked
        permutations INTEGER,
        seed INTEGER
    );
    CREATE TABLE chance (           -- the r that the best feature reaches when outcomes are permuted
        run VARCHAR,
        layer SMALLINT,             -- NULL: over all layers
        level DOUBLE,               -- 95% of permutations stay below it
        median DOUBLE,
        best DOUBLE,                -- highest r of the real outcomes
        p DOUBLE                    -- share of permutations whose best reaches it (with the real one counted in)
    );
    CREATE TABLE effects (          -- features steered alone on the validation split
        run VARCHAR,
        layer SMALLINT,
        feature INTEGER,
        r DOUBLE,
        scale DOUBLE,               -- multiple of the coefficient
        coefficient DOUBLE,
        n INTEGER,
        unsteered_rate DOUBLE,
        steered_rate DOUBLE,
        positive_flips INTEGER,
        negative_flips INTEGER,
        p DOUBLE,                   -- exact McNemar test
        UNIQUE (run, layer, feature, scale)
    );
    CREATE TABLE sets (
        run VARCHAR,
        name VARCHAR,
        strategy VARCHAR,           -- S, A, P, V or hand
        created TIMESTAMP,
        body JSON,                  -- the steering set, as saved to a file
        UNIQUE (run, name)
    );
    CREATE TABLE evaluations (      -- sets measured on a split
        run VARCHAR,
        name VARCHAR,               -- the set
        task VARCHAR,               -- what it was measured on: the run's own task, or another to see side effects
        split VARCHAR,
        scale DOUBLE,               -- global scale of the set
        created TIMESTAMP,
        summary JSON,               -- rates, intervals, flips, SER, p, fluency, controls
        samples JSON,               -- every sample with both texts and outcomes
        UNIQUE (run, name, task, split, scale)
    );
    """,
    """
    ALTER TABLE effects ADD COLUMN share DOUBLE;  -- length of the added vector over that of the activation it meets
    """,
    """
    CREATE TABLE descriptions (     -- what features are said to mean
        run VARCHAR,
        layer SMALLINT,
        feature INTEGER,
        source VARCHAR,             -- neuronpedia (imported) or own (our own guess, from promoted tokens and top texts)
        description VARCHAR,
        neuronpedia VARCHAR,        -- the SAE's name on neuronpedia.org (model/sae); NULL if it has none
        promoted VARCHAR,           -- the tokens it promotes, one a line, strongest first; NULL where not computed
        UNIQUE (run, layer, feature, source)
    );
    """,
    """
    ALTER TABLE sets ADD COLUMN content VARCHAR;  -- hash of what the set adds and how it asks; its name does not count
    ALTER TABLE evaluations RENAME TO evaluations_before;
    CREATE TABLE evaluations (      -- sets measured on a split
        run VARCHAR,
        name VARCHAR,               -- the set
        content VARCHAR DEFAULT '', -- hash of the set as it was when measured; '' if not known
        task VARCHAR,               -- what it was measured on: the run's own task, or another to see side effects
        split VARCHAR,
        scale DOUBLE,               -- global scale of the set
        n INTEGER DEFAULT 0,        -- samples
        created TIMESTAMP,
        summary JSON,               -- rates, intervals, flips, SER, p, fluency, controls
        samples JSON,               -- every sample with both texts and outcomes
        UNIQUE (run, name, content, task, split, scale, n)
    );
    INSERT INTO evaluations SELECT run, name, '', task, split, scale, CAST(summary->>'n' AS INTEGER), created, summary,
        samples FROM evaluations_before;
    DROP TABLE evaluations_before;
    """,
    """
    ALTER TABLE effects ADD COLUMN outcomes VARCHAR;  -- of the steered answers, one bit a sample, hexadecimal; NULL if graded
    ALTER TABLE effects ADD COLUMN unsteered_outcomes VARCHAR;
    ALTER TABLE effects ADD COLUMN beyond_unsteered_rate DOUBLE;  -- with the offset of classes that serves best
    ALTER TABLE effects ADD COLUMN beyond_steered_rate DOUBLE;    -- steered, with its own offset
    ALTER TABLE effects ADD COLUMN beyond_positive_flips INTEGER;
    ALTER TABLE effects ADD COLUMN beyond_negative_flips INTEGER;
    ALTER TABLE effects ADD COLUMN beyond_p DOUBLE;
    ALTER TABLE effects ADD COLUMN beyond_outcomes VARCHAR;
    ALTER TABLE effects ADD COLUMN beyond_unsteered_outcomes VARCHAR;
    ALTER TABLE sets ADD COLUMN selection JSON;  -- how the set was chosen, and how surely
    CREATE TABLE matched (          -- sets chosen as a set was, among random features in place of those of highest r
        run VARCHAR,
        content VARCHAR,            -- hash of the set they are the control of
        draw INTEGER,
        created TIMESTAMP,
        body JSON,                  -- the steering set
        UNIQUE (run, content, draw)
    );
    """,
    """
    CREATE TABLE predictions (      -- what steering with each feature would do, to first order, from gradients
        run VARCHAR,
        layer SMALLINT,
        feature INTEGER,
        coefficient DOUBLE,         -- what it was predicted with
        own BOOLEAN,                -- that is the feature's own; else it has none, and its layer's median stands for it
        predicted_effect DOUBLE,    -- change of the success rate on the training samples, at scale 1
        shift DOUBLE,               -- change of the class margin that all samples share; NULL without classes
        tilt DOUBLE,                -- change of the margin by which classes are told apart; NULL without classes
        toward VARCHAR,             -- the class that the shift favours
        share DOUBLE,               -- length of the vector at scale 1 over that of the activation it would be added to
        UNIQUE (run, layer, feature)
    );
    CREATE TABLE prediction_facts ( -- how they were made
        run VARCHAR PRIMARY KEY,
        kind VARCHAR,               -- classes (probability of the right class) or answers (policy gradient)
        samples INTEGER,            -- training samples
        inexact INTEGER             -- of these, answers whose tokens could not be recovered exactly from their text
    );
    """,
    """
    ALTER TABLE chance ADD COLUMN within_level DOUBLE;   -- as level, median, best and p, of r within the class
    ALTER TABLE chance ADD COLUMN within_median DOUBLE;
    ALTER TABLE chance ADD COLUMN within_best DOUBLE;
    ALTER TABLE chance ADD COLUMN within_p DOUBLE;
    """,
    """
    ALTER TABLE runs ADD COLUMN conditions JSON;  -- kind of device, threads and limits that it was begun with
    """,
    """
    ALTER TABLE runs ADD COLUMN timed INTEGER;   -- samples whose answers were timed; NULL in a run of an older release
    ALTER TABLE runs ADD COLUMN seconds DOUBLE;  -- time that answering these took, with reading the features
    """,
)

TABLES = frozenset(
    [
        "runs",
        "samples",
        "activations",
        "features",
        "fits",
        "chance",
        "effects",
        "sets",
        "evaluations",
        "descriptions",
        "matched",
        "predictions",
        "prediction_facts",
    ]
)
"""The tables that hold a run, all of them with a column `run`."""
