"""The relations of the bank, by domain. One more relation is one more entry here, and a new `BANK_VERSION`.

Values are small and results exact, so that a small model can learn the arithmetic. Where a formula needs a constant,
the question states a round one ("Take R = 8 J/(mol·K)").
"""

from r1k_builder.embedded.relation import Quantity, Relation, span

Q = Quantity
G = Q("g", "gravitational acceleration", "m/s²", span(10, 10), constant=True)
R = Q("R", "gas constant", "J/(mol·K)", span(8, 8), constant=True)
AMOUNTS = (*span(2, 9), *span("0.5", "2.5"))

# fmt: off
PHYSICS = (
    Relation(
        "force", "physics", "F = m × a", ("sledge", "trolley", "crate", "cart"),
        (
            Q("m", "mass", "kg", span(2, 30)),
            Q("a", "acceleration", "m/s²", span(2, 9), state="accelerates at {}", cues=("accelerat*",)),
            Q("F", "net force", "N", of="net force on", state="is pulled by a net force of {}",
              cues=("force", "resultant force")),
        ),
    ),
    Relation(
        "distance", "physics", "d = v × t", ("car", "train", "boat", "drone"),
        (
            Q("v", "speed", "m/s", span(2, 30), state="moves at a speed of {}", ask="How fast does it move?",
              cues=("how fast", "velocity")),
            Q("t", "travel time", "s", span(2, 9), state="travels for {}",
              ask="How long does it travel?", cues=("how long", "how much time", "how many seconds", "time")),
            Q("d", "distance", "m", of="distance covered by", state="covers a distance of {}",
              ask="How far does it go?", cues=("how far",)),
        ),
    ),
    Relation(
        "ohm", "physics", "U = I × R", ("resistor", "heater", "lamp", "wire"),
        (
            Q("I", "current", "A", AMOUNTS, of="current through", state="carries a current of {}"),
            Q("R", "resistance", "Ω", span(2, 30)),
            Q("U", "voltage", "V", of="voltage across", state="has a voltage of {} across it",
              cues=("potential difference",)),
        ),
    ),
    Relation(
        "net-force", "physics", "N = D - f", ("car", "ship", "truck", "tram"),
        (
            Q("D", "driving force", "N", span(50, 99), of="driving force on",
              state="is pushed forward by a driving force of {}",
              cues=("driv*", "push*", "pull*", "thrust", "forward*")),
            Q("f", "resisting force", "N", span(2, 49), of="resisting force on",
              state="is held back by a resisting force of {}",
              cues=("resist*", "friction*", "drag", "opposing force", "opposed", "held back")),
            Q("N", "net force", "N", of="net force on", state="feels a net force of {}",
              cues=("resultant force", "resultant")),
        ),
    ),
    Relation(
        "series-resistance", "physics", "R = A + B",
        ("series circuit", "chain of two resistors", "resistor chain", "pair of resistors in series"),
        (
            Q("A", "first resistance", "Ω", span(2, 49), cues=("first resistor",)),
            Q("B", "second resistance", "Ω", span(2, 49),
              cues=("second resistor", "other resistor", "other resistance")),
            Q("R", "total resistance", "Ω",
              cues=("total", "combined resistance", "equivalent resistance", "resistance?")),
        ),
        needs=("series", "chain"),
    ),
    Relation(
        "velocity", "physics", "v = u + a × t", ("car", "train", "rocket", "sledge"),
        (
            Q("u", "initial speed", "m/s", span(2, 30), state="starts with an initial speed of {}",
              cues=("initial velocity", "starting speed", "initially", "from>", "start*", "at first")),
            Q("a", "acceleration", "m/s²", span(2, 6), state="accelerates at {}", cues=("accelerat*",)),
            Q("t", "acceleration time", "s", span(2, 9), state="speeds up for {}", ask="How long does it speed up?",
              cues=("how long", "time", "how many seconds")),
            Q("v", "final speed", "m/s", state="reaches a final speed of {}",
              cues=("final velocity", "to>", "reach*", "how fast", "speed?", "velocity?", "ends")),
        ),
    ),
    Relation(
        "potential-energy", "physics", "E = m × g × h", ("crate", "stone", "bucket", "lift"),
        (
            Q("m", "mass", "kg", span(2, 30)),
            Q("h", "height", "m", span(2, 9), state="is raised to a height of {}", ask="How high is it raised?",
              cues=("how high", "how far", "raised", "lifted", "high", "above")),
            Q("E", "potential energy", "J", state="gains a potential energy of {}",
              cues=("energy", "work", "how many joules")),
            G,
        ),
    ),
    Relation(
        "liquid-pressure", "physics", "p = ρ × g × h", ("liquid column", "brine layer", "oil layer", "liquid layer"),
        (
            Q("ρ", "density", "g/cm³", AMOUNTS, cues=("how dense",)),
            Q("h", "depth", "m", span(2, 30), cues=("how deep", "deep", "height", "high", "tall")),
            Q("p", "pressure", "kPa", of="pressure under", state="exerts a pressure of {}"),
            G,
        ),
    ),
    Relation(
        "spring-energy", "physics", "E = F × x / 2", ("bungee cord", "rubber cord", "elastic rope", "long spring"),
        (
            Q("F", "pulling force", "N", span(2, 60, 2), of="pulling force on",
              state="is stretched by a pulling force of {}", cues=("force", "pull*")),
            Q("x", "extension", "m", span(2, 9), state="has an extension of {}",
              cues=("how far", "how much longer", "stretch", "by how much")),
            Q("E", "stored energy", "J", of="energy stored in", state="stores an energy of {}",
              cues=("energy", "how many joules")),
        ),
        needs=("spring", "cord", "elastic", "bungee"),
    ),
    Relation(
        "gas-energy", "physics", "E = 3/2 × n × R × T",
        ("helium sample", "neon sample", "argon sample", "xenon sample"),
        (
            Q("n", "amount", "mol", (*span(2, 9), *span("0.5", "9.5")), of="amount of gas in", state="contains {} of gas",
              ask="How many moles does it contain?",
              cues=("how many moles", "how much gas", "number of moles", "moles", "amount of substance")),
            Q("T", "temperature", "K", span(100, 900, 100), cues=("how hot",)),
            Q("E", "kinetic energy", "J", cues=("energy", "internal energy", "how many joules")),
            R,
        ),
        needs=("kinetic", "internal energy"),
    ),
    Relation(
        "density", "physics", "ρ = m / V", ("stone", "metal block", "coin", "crystal"),
        (
            Q("m", "mass", "g", cues=("how heavy", "weigh*")),
            Q("V", "volume", "cm³", span(2, 30), cues=("how big", "space")),
            Q("ρ", "density", "g/cm³", span(2, 9), cues=("how dense",)),
        ),
    ),
)

CHEMISTRY = (
    Relation(
        "molar-mass", "chemistry", "m = n × M", ("powder sample", "crystal sample", "salt sample", "metal sample"),
        (
            Q("n", "amount", "mol", AMOUNTS, state="contains an amount of {}",
              cues=("how many moles", "number of moles", "moles", "amount of substance")),
            Q("M", "molar mass", "g/mol", span(12, 40)),
            Q("m", "mass", "g", cues=("how heavy", "weigh*", "how many grams")),
        ),
    ),
    Relation(
        "molar-amount", "chemistry", "n = c × V", ("salt solution", "acid solution", "sugar solution", "base solution"),
        (
            Q("c", "concentration", "mol/L", (*span(2, 9), *span("0.1", "0.9", "0.1")),
              cues=("molarity", "how concentrated")),
            Q("V", "volume", "L", span(2, 30), cues=("how many litres", "how many liters")),
            Q("n", "dissolved amount", "mol", of="dissolved amount in", state="contains a dissolved amount of {}",
              cues=("how many moles", "number of moles", "moles", "amount")),
        ),
    ),
    Relation(
        "dilution", "chemistry", "C = c × v / V", ("salt solution", "acid solution", "dye solution", "sugar solution"),
        (
            Q("c", "initial concentration", "mol/L",
              cues=("stock concentration", "original concentration", "initially", "before")),
            Q("v", "initial volume", "mL", span(10, 50, 10),
              cues=("original volume", "starting volume", "first volume", "how much of it", "take*")),
            Q("V", "final volume", "mL", span(60, 300, 20), state="is diluted to a final volume of {}",
              cues=("total volume", "to>", "diluted to>", "new volume")),
            Q("C", "final concentration", "mol/L", span(1, 9),
              state="ends with a final concentration of {}",
              cues=("new concentration", "concentration?", "after", "resulting concentration")),
        ),
    ),
    Relation(
        "boyle", "chemistry", "P = p × v / V",
        ("gas sample at constant temperature", "nitrogen sample at constant temperature",
         "gas bubble at constant temperature", "oxygen sample at constant temperature"),
        (
            Q("p", "initial pressure", "kPa",
              cues=("original pressure", "starting pressure", "initially", "at first", "from>")),
            Q("v", "initial volume", "L", span(2, 9),
              cues=("original volume", "starting volume", "initially", "at first", "from>")),
            Q("V", "final volume", "L", span(2, 9), state="is brought to a final volume of {}",
              cues=("new volume", "to>", "volume?", "compress*", "expand*")),
            Q("P", "final pressure", "kPa", span(20, 90, 10), state="reaches a final pressure of {}",
              cues=("new pressure", "to>", "pressure?", "reach*")),
        ),
    ),
    Relation(
        "gas-heating", "chemistry", "Q = 3/2 × n × R × ΔT",
        ("rigid helium tank", "rigid neon tank", "rigid argon tank", "rigid xenon tank"),
        (
            Q("n", "amount", "mol", (*span(2, 9), *span("0.5", "9.5")), of="amount of gas in", state="holds {} of gas",
              ask="How many moles does it hold?",
              cues=("how many moles", "how much gas", "number of moles", "moles", "amount of substance")),
            Q("ΔT", "temperature rise", "K", (*span(2, 9), *span(10, 90, 10)), state="warms up with a temperature rise of {}",
              cues=("warm*", "temperature change", "by how much", "how much warmer", "temperature", "rise*")),
            Q("Q", "heat", "J", of="heat taken up by", state="takes up a heat of {}",
              cues=("how many joules", "energy", "thermal energy")),
            R,
        ),
        needs=("heat",),
    ),
    Relation(
        "solution-mass", "chemistry", "m = s + w", ("salt solution", "sugar solution", "dye solution", "soda solution"),
        (
            Q("s", "solute mass", "g", span(2, 40), cues=("solute", "salt", "sugar", "dissolv*")),
            Q("w", "solvent mass", "g", span(41, 99), cues=("solvent", "water")),
            Q("m", "solution mass", "g", cues=("total mass", "mass of the solution", "total")),
        ),
        needs=("solution", "solvent"),
    ),
    Relation(
        "leftover", "chemistry", "L = m - r", ("zinc sample", "iron sample", "chalk sample", "copper sample"),
        (
            Q("m", "initial mass", "g", span(50, 99),
              cues=("original mass", "starting mass", "start*", "initially", "at first")),
            Q("r", "reacted mass", "g", span(2, 49), state="loses a reacted mass of {}",
              cues=("react*", "used up", "dissolv*", "consumed", "mass that reacted", "mass that has reacted")),
            Q("L", "remaining mass", "g", state="leaves a remaining mass of {}",
              cues=("mass left", "left over", "leftover mass", "remain*", "left", "how many grams remain",
                    "how much remains")),
        ),
        needs=("react", "used up", "dissol", "consum"),
    ),
    Relation(
        "mass-percent", "chemistry", "s = p × m / 100",
        ("salt solution", "sugar solution", "acid solution", "dye solution"),
        (
            Q("p", "mass percent", "%", span(2, 30),
              cues=("mass percentage", "percentage", "percent", "concentration", "by mass")),
            Q("m", "solution mass", "g", span(100, 900, 100),
              cues=("total mass", "mass of the solution", "mass of solution", "solution")),
            Q("s", "solute mass", "g",
              cues=("solute", "mass of salt", "mass of sugar", "mass of acid", "dissolved mass", "how many grams",
                    "how much salt", "how much sugar", "how much acid", "salt", "sugar", "dissolv*")),
        ),
        needs=("solution",),
    ),
    Relation(
        "zero-order", "chemistry", "c = s - k × t", ("dye", "reactant", "drug", "pigment"),
        (
            Q("s", "initial concentration", "mmol/L", span(40, 99),
              cues=("starting concentration", "original concentration", "start*", "initially", "at first", "from>")),
            Q("k", "decay rate", "mmol/(L·s)", span(2, 6), state="breaks down at a decay rate of {}",
              cues=("rate", "rate constant", "how fast", "reaction rate")),
            Q("t", "reaction time", "s", span(2, 9), state="reacts for {}", ask="How long does it react?",
              cues=("how long", "time", "how many seconds")),
            Q("c", "final concentration", "mmol/L", state="ends with a final concentration of {}",
              cues=("remaining concentration", "to>", "left", "remains", "concentration?", "drops to>", "falls to>",
                    "end*")),
        ),
    ),
)

MATH = (
    Relation(
        "rectangle-area", "math", "A = a × b",
        ("rectangle", "rectangular card", "rectangular tile", "rectangular field"),
        (
            Q("a", "length", "cm", span(2, 30), cues=("long", "how long", "long side", "longer side")),
            Q("b", "width", "cm", span(2, 9), cues=("wide", "how wide", "breadth", "short side", "other side")),
            Q("A", "area", "cm²", cues=("surface",)),
        ),
        needs=("rectang",),
    ),
    Relation(
        "triangle-area", "math", "A = b × h / 2", ("triangle", "triangular sign", "triangular sail", "triangular tile"),
        (
            Q("b", "base", "cm", span(2, 60, 2)),
            Q("h", "height", "cm", span(2, 9), cues=("high", "how high", "tall", "altitude")),
            Q("A", "area", "cm²", cues=("surface",)),
        ),
        needs=("triang",),
    ),
    Relation(
        "rectangle-perimeter", "math", "P = 2 × (a + b)",
        ("rectangle", "rectangular frame", "rectangular garden", "rectangular pool"),
        (
            Q("a", "length", "m", span(2, 30), cues=("long", "how long", "long side", "longer side")),
            Q("b", "width", "m", span(2, 20), cues=("wide", "how wide", "breadth", "short side", "other side")),
            Q("P", "perimeter", "m", cues=("fence", "distance around", "around", "how long is the fence")),
        ),
        needs=("rectang",),
    ),
    Relation(
        "kite-perimeter", "math", "P = 2 × (s + l)", ("kite", "kite-shaped flag", "kite-shaped window", "paper kite"),
        (
            Q("s", "short side", "cm", span(2, 20), cues=("shorter side", "shorter", "short", "one side")),
            Q("l", "long side", "cm", span(21, 45), cues=("longer side", "longer", "long", "other side")),
            Q("P", "perimeter", "cm", cues=("distance around", "around")),
        ),
        needs=("kite",),
    ),
    Relation(
        "box-volume", "math", "V = l × w × h", ("box", "brick", "tank", "carton"),
        (
            Q("l", "length", "cm", span(2, 9), cues=("long", "how long")),
            Q("w", "width", "cm", span(2, 9), cues=("wide", "how wide")),
            Q("h", "height", "cm", span(2, 9), cues=("high", "how high", "tall", "how tall", "deep", "depth")),
            Q("V", "volume", "cm³", cues=("capacity",)),
        ),
        needs=("box", "brick", "tank", "carton", "cuboid", "crate", "rectangular"),
    ),
    Relation(
        "line", "math", "y = m × x + b", ("line", "linear function", "linear graph", "linear rule"),
        (
            Q("m", "slope", "", span(2, 6), cues=("gradient",)),
            Q("b", "intercept", "", (*span(-9, -1), *span(1, 20)), cues=("y-intercept",)),
            Q("x", "input", "", span(2, 9), state="takes an input of {}", cues=("x",)),
            Q("y", "output", "", state="gives an output of {}", cues=("y", "value", "function value")),
        ),
        needs=("line", "linear"),
        signed=True,
    ),
    Relation(
        "third-angle", "math", "C = 180 - A - B", ("triangle", "triangular sign", "triangular sail", "triangular tile"),
        (
            Q("A", "first angle", "°", span(30, 80), cues=("one angle",)),
            Q("B", "second angle", "°", span(30, 80), cues=("another angle", "another")),
            Q("C", "third angle", "°", cues=("last angle", "remaining angle", "other angle", "missing angle")),
        ),
        needs=("triang",),
    ),
    Relation(
        "mean-score", "math", "M = (a + b) / 2", ("team", "class", "squad", "quiz group"),
        (
            Q("a", "first score", "", span(2, 49), cues=("first test", "first", "one score")),
            Q("b", "second score", "", span(2, 49), cues=("second test", "second", "other score", "other")),
            Q("M", "mean score", "", cues=("mean", "average", "average score")),
        ),
        needs=("mean", "average"),
    ),
)

FINANCE = (
    Relation(
        "simple-interest", "finance", "I = P × r × t / 100", ("loan", "deposit", "bond", "mortgage"),
        (
            Q("P", "principal", "dollars", span(100, 900, 100),
              cues=("how much money", "invest*", "borrow*", "sum", "loan", "deposit*")),
            Q("r", "yearly rate", "%", span(2, 9), state="bears a yearly rate of {}",
              cues=("interest rate", "rate", "annual rate", "what percentage", "annual interest rate",
                    "yearly interest rate", "per year")),
            Q("t", "term", "years", span(2, 9), state="runs for a term of {}",
              cues=("how long", "how many years", "time")),
            Q("I", "simple interest", "dollars", of="simple interest on", state="brings a simple interest of {}",
              cues=("interest", "how much interest", "earn*?")),
        ),
        needs=("simple",),
    ),
    Relation(
        "total-cost", "finance", "C = p × n", ("order", "delivery", "parcel", "shipment"),
        (
            Q("p", "unit price", "dollars", AMOUNTS,
              cues=("price per item", "price", "per item", "each", "how much does each", "a piece")),
            Q("n", "number of items", "", span(2, 30), of="number of items in", state="contains {} items",
              ask="How many items does it contain?", cues=("how many",)),
            Q("C", "total cost", "dollars",
              cues=("cost?", "total price", "total", "how much does the", "how many dollars", "altogether", "in all")),
        ),
    ),
    Relation(
        "profit", "finance", "P = R - C", ("shop", "bakery", "farm", "kiosk"),
        (
            Q("R", "revenue", "dollars", span(50, 99), cues=("sales", "income", "takes in", "takings")),
            Q("C", "cost", "dollars", span(2, 49), cues=("costs", "expenses", "spend*")),
            Q("P", "profit", "dollars", state="makes a profit of {}", cues=("earn*?",)),
        ),
        needs=("profit",),
    ),
    Relation(
        "service-bill", "finance", "B = f + r × h", ("plumbing firm", "garage", "repair service", "tutoring service"),
        (
            Q("f", "fixed fee", "dollars", span(2, 30), state="charges a fixed fee of {}",
              cues=("fixed charge", "call-out fee", "base fee", "flat fee", "fixed")),
            Q("r", "hourly rate", "dollars", span(10, 30, 5), state="charges an hourly rate of {}",
              cues=("rate", "hourly", "each hour", "per hour", "an hour", "every hour")),
            Q("h", "working time", "hours", span(2, 9), state="works for {}",
              cues=("how many hours", "how long", "time", "hours")),
            Q("B", "total bill", "dollars", state="sends a total bill of {}",
              cues=("bill", "total", "total charge", "total fee", "in all", "altogether", "total cost")),
        ),
    ),
    Relation(
        "loan-balance", "finance", "B = L - p × n", ("car loan", "house loan", "student loan", "bank loan"),
        (
            Q("L", "initial debt", "dollars", span(300, 900, 50), state="starts with an initial debt of {}",
              cues=("amount borrowed", "borrow*", "original debt", "initial loan", "start*", "initially")),
            Q("p", "monthly payment", "dollars", span(10, 50, 5), state="is paid off by a monthly payment of {}",
              cues=("each month", "per month", "monthly", "every month", "a month")),
            Q("n", "repayment time", "months", span(2, 9), state="is repaid for {}",
              cues=("how many months", "how long", "time", "months")),
            Q("B", "remaining debt", "dollars", state="leaves a remaining debt of {}",
              cues=("balance", "left", "still owed", "remain*", "owe*", "down to>")),
        ),
        needs=("debt", "loan", "balance", "owe"),
    ),
    Relation(
        "balance-sheet", "finance", "T = D + E", ("company", "bank", "startup", "firm"),
        (
            Q("D", "debt", "dollars", span(50, 99), cues=("debts", "liabilities", "owe*")),
            Q("E", "equity", "dollars", span(2, 49), cues=("net worth",)),
            Q("T", "balance sheet total", "dollars", cues=("total assets", "assets")),
        ),
        needs=("asset", "balance sheet"),
    ),
    Relation(
        "commission", "finance", "C = s × r / 100", ("broker", "travel agency", "dealer", "gallery"),
        (
            Q("s", "sales value", "dollars", span(100, 900, 100), state="makes a sales value of {}",
              cues=("sales", "sold", "sell*", "sale")),
            Q("r", "commission rate", "%", span(2, 30), state="has a commission rate of {}",
              cues=("rate", "percentage", "what percent", "percent")),
            Q("C", "commission", "dollars", state="earns a commission of {}", cues=("earn*?",)),
        ),
        needs=("commission",),
    ),
    Relation(
        "dividends", "finance", "D = s × d", ("pension fund", "trust", "portfolio", "foundation"),
        (
            Q("s", "number of shares", "", span(2, 30), of="number of shares in", state="owns {} shares",
              ask="How many shares are there?", cues=("how many shares", "shares")),
            Q("d", "dividend per share", "dollars", AMOUNTS, of="dividend per share of",
              state="gets a dividend per share of {}", cues=("per share", "each share", "for each share", "a share")),
            Q("D", "dividend income", "dollars", state="has a dividend income of {}",
              cues=("total dividend", "total dividends", "income", "total", "in all", "dividend?", "dividends?",
                    "altogether")),
        ),
        needs=("dividend",),
    ),
)

# fmt: on

RELATIONS = PHYSICS + CHEMISTRY + MATH + FINANCE
