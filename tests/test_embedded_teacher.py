"""The embedded teacher: it reads questions that it has never seen, inverts and solves them, and admits what it can't read."""

import asyncio
import hashlib
import json
import re
import sys
import time
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from r1k_builder import invert, solve
from r1k_builder.config import TeacherConfig
from r1k_builder.embedded import BANK_VERSION, RELATIONS, answer, facts
from r1k_builder.embedded.bank import Split, forward_example
from r1k_builder.embedded.host import serve
from r1k_builder.embedded.reading import measure, plain, read
from r1k_builder.embedded.relation import Relation
from r1k_builder.embedded.wording import ask, explain, forms
from r1k_builder.final_answer import final_answer
from r1k_builder.schema import Completion, ForwardExample, Rejection

TEACHER = TeacherConfig(preset="embedded")

REPLIES = "d0dd894921e033241461055289553aaffb54869239852942f4ec9b9474ceacfe"
"""SHA-256 of the reverse questions and answers for the first 360 train rows of BANK_VERSION 1."""

HAND_WRITTEN = """
force
  Calculate the force needed to accelerate a 12kg trolley at 3 m/s^2. | 36 N
  A net force of 84 newtons gives a body an acceleration of 7 m/s². How much mass does the body have? | 12 kg
  What acceleration does a force of 1,500 N give to a car with a mass of 1,000 kg? | 1.5 m/s²
  An 8 kg cart experiences a net force of 32 N. Calculate its acceleration. | 4 m/s²
  Which force gives 9 kg an acceleration of 2 m/s²? | 18 N
  A block of mass 5 kg accelerates at 2 m/s². What force acts on it? | 10 N
  A 5 kg block is pushed with a force of 20 N. Find its acceleration. | 4 m/s²
  If a 10 N force acts on a 2 kg object, what is its acceleration? | 5 m/s²
distance
  A runner keeps a speed of 7 m/s for 30 seconds. How far does she run? | 210 m
  How long does a bus need for a distance of 600 m at 15 m/s? | 40 s
  A snail covers 3 m in 1500 s. Find its speed. | 0.002 m/s
  A cyclist rides for 45 s with a speed of 6 m/s; find the distance. | 270 m
  Find the time a boat needs for 240 m at a speed of 12 m/s. | 20 s
  A car travels at 25 m/s for 8 s. What distance does it cover? | 200 m
  A car covers 200 m in 8 s. What is its average speed? | 25 m/s
  How much time does a train moving at 20 m/s need to cover 500 m? | 25 s
ohm
  Find the voltage if 0.25 A flow through a resistor of 120 ohms. | 30 V
  A potential difference of 12 V drives 3 A through a coil. Compute its resistance. | 4 Ω
  What current flows through a 46Ω heater when the voltage is 230V? | 5 A
  A lamp has a resistance of 20 Ω and carries 2.5 A. Find the voltage. | 50 V
  A current of 3 A flows through a resistance of 8 Ω. Calculate the voltage across it. | 24 V
  Calculate the current in a 10 Ω resistor connected to a 20 V battery. | 2 A
net-force
  A tug pushes a barge with 900 N while friction of 350 N opposes it. Determine the resultant force. | 550 N
  An engine gives a thrust of 75 N and the net force is 31 N. What is the drag? | 44 N
  The driving force on a car is 400 N and the resisting force is 150 N. What is the resultant force on the car? | 250 N
  The resultant force on a sled is 40 N while the friction is 25 N. Find the driving force. | 65 N
  A box is pushed with 80 N against a friction of 30 N. Find the net force. | 50 N
series-resistance
  Two resistors of 15 ohms and 27 ohms are connected in series. What is the total resistance? | 42 Ω
  A series circuit has a total resistance of 90 Ω and its first resistor has 36 Ω. What is the second resistance? | 54 Ω
  The resistance of two resistors in series is 50 Ω in total. One of them has 20 Ω. What is the other resistance? | 30 Ω
  Find the equivalent resistance of a 4 Ω and a 6 Ω resistor in series. | 10 Ω
  What is the total resistance of a series circuit with resistors of 4 Ω and 6 Ω? | 10 Ω
velocity
  A motorbike starts from 4 m/s and accelerates at 3 m/s² for 6 s. What speed does it reach? | 22 m/s
  How long does it take a van to go from 5 m/s to 29 m/s with an acceleration of 2 m/s^2? | 12 s
  A sprinter reaches 9 m/s after 3 s, starting from 0 m/s. What is the acceleration? | 3 m/s²
  A rocket has an initial speed of 20 m/s and accelerates for 4 s at 6 m/s². How fast is it then? | 44 m/s
  A car's final speed is 30 m/s. It accelerated at 2 m/s² for 10 s. What was its initial speed? | 10 m/s
  A car slows from 30 m/s to 10 m/s in 5 s. Calculate the acceleration. | -4 m/s²
  A train at 30 m/s slows down at 2 m/s² for 5 s. What is its final velocity? | 20 m/s
  A cyclist decelerates at 3 m/s² from 18 m/s for 4 s. Find the final velocity. | 6 m/s
  A car moving at 10 m/s accelerates at 2 m/s² for 5 s. Find its final velocity. | 20 m/s
  A car has an initial velocity of 10 m/s. It accelerates at 2 m/s² for 5 s. What is its velocity? | 20 m/s
  A train increases its speed from 10 m/s to 30 m/s in 5 s. Calculate the acceleration. | 4 m/s²
potential-energy
  With g = 10 m/s², how much potential energy does a 6 kg box gain when it is lifted by 4 m? | 240 J
  Taking g = 9.8 m/s^2, to what height can 490 J lift 5 kg? | 10 m
  Calculate the potential energy of 4 kg at a height of 3 m (g = 10 m/s²). | 120 J
  How high must a 5 kg stone be lifted to gain 200 J? Take g = 10 m/s². | 4 m
  Find the gravitational potential energy of a 3 kg book on a shelf at a height of 2 m. Use g = 10 m/s². | 60 J
liquid-pressure
  Compute the pressure at a depth of 7 m in a liquid with a density of 1.2 g/cm^3 (g = 10 m/s^2). | 84 kPa
  The pressure of a liquid is 90 kPa at a depth of 9 m. Take g = 10 m/s². What is its density? | 1 g/cm³
  At what depth is the pressure 60 kPa in a liquid with density 2 g/cm³? g = 10 m/s² | 3 m
  What is the pressure 5 m below the surface of a liquid of density 1 g/cm³? Take g = 10 m/s². | 50 kPa
spring-energy
  A force of 30 N stretches a spring by 0.4 m. Determine the energy in the spring. | 6 J
  A spring holds 50 J when the force is 20 N. How far is it stretched? | 5 m
  How much force is needed to store 12 J in a spring stretched by 0.3 m? | 80 N
  A spring is stretched 0.2 m by a force of 40 N. How much energy is stored? | 4 J
gas-energy
  What is the total kinetic energy of 3 moles of a monatomic gas at 250 K? Use R = 8 J/(mol K). | 9000 J
  Using R = 8.314 J/(mol·K), find the internal energy of 2 mol of helium at 300 K. | 7482.6 J
  The kinetic energy of 4 mol of argon is 9600 J. With R = 8 J/mol/K, calculate the temperature. | 200 K
  At what temperature do 2 mol of neon have a kinetic energy of 4800 J? Use R = 8 J/(mol·K). | 200 K
  What is the kinetic energy of 2 mol of an ideal monatomic gas at T = 300 K? (R = 8 J/(mol·K)) | 7200 J
  Calculate the total translational kinetic energy of 3 mol of gas at 400 K, taking R = 8 J/(mol·K). | 14400 J
  A gas sample has a kinetic energy of 7200 J at 300 K. How many moles of gas are there? Take R = 8 J/(mol·K). | 2 mol
density
  A pebble weighs 96 g and takes up a space of 32 cm^3. Work out its density. | 3 g/cm³
  Gold has a density of 19.3 g/cm³. What is the mass of 10 cm³ of it? | 193 g
  What is the mass of 25 cm³ of a liquid whose density is 0.8 g/cm³? | 20 g
  An object has a mass of 60 g and a volume of 20 cm³. Calculate its density. | 3 g/cm³
  Find the volume of a metal with a density of 8 g/cm³ and a mass of 64 g. | 8 cm³
molar-mass
  How many grams do 3 moles of a salt with a molar mass of 58.5 g/mol weigh? | 175.5 g
  0.5 mol of a metal have a mass of 28 g. Calculate its molar mass. | 56 g/mol
  How many moles are 90 g of water, whose molar mass is 18 g/mol? | 5 mol
  How heavy are 2.5 mol of carbon with a molar mass of 12 g/mol? | 30 g
  What is the mass of 3 mol of a compound with molar mass 40 g/mol? | 120 g
  Calculate the number of moles in 120 g of a substance with a molar mass of 40 g/mol. | 3 mol
molar-amount
  How many moles of salt are in 4 litres of a 0.3 mol/L solution? | 1.2 mol
  6 mol of sugar are dissolved in 24 L. What is the concentration? | 0.25 mol/L
  A solution of 0.2 mol/L has a volume of 5 L. What amount is dissolved? | 1 mol
  Which volume contains 6 mol at a concentration of 3 mol/L? | 2 L
  How many moles of solute are in 2 L of a 0.5 mol/L solution? | 1 mol
  What volume of a 0.5 mol/L solution contains 2 mol of solute? | 4 L
dilution
  An acid has an initial concentration of 6 mol/L. 50 mL of it are diluted to 300 mL. What is the new concentration? | 1 mol/L
  20 mL of a 3 mol/L solution is diluted to 100 mL. What is the final concentration? | 0.6 mol/L
  Acid with an initial concentration of 8 mol/L is diluted to 100 mL and 2 mol/L. Find its initial volume. | 25 mL
boyle
  A gas at 120 kPa is compressed from 9 L to 6 L at constant temperature. What pressure does it reach? | 180 kPa
  The volume of a gas at 150 kPa changes from 4 L to 12 L at constant temperature. Find the final pressure. | 50 kPa
  A gas expands to 10 L at constant temperature. Its pressure falls from 250 kPa to 75 kPa. What was its initial volume? | 3 L
gas-heating
  How much heat warms 5 mol of neon in a closed bottle by 10 K? R = 8 J/(mol·K). | 600 J
  How much heat do 3 mol of argon absorb when the temperature rises by 20 K at constant volume? R = 8 J/(mol·K) | 720 J
  2400 J of heat warm neon in a tank by 20 K. With R = 8 J/(mol·K), how many moles of neon are there? | 10 mol
solution-mass
  25 g of salt are dissolved in 175 g of water. What is the total mass of the solution? | 200 g
  A solution has a total mass of 260 g and contains 40 g of solute. How much solvent does it contain? | 220 g
  A solution has a total mass of 260 g and contains 40 g of solute. Find the mass of the solvent. | 220 g
  A solution with a mass of 500 g contains 45 g of solute. How much solvent is there? | 455 g
  40 g of salt and 260 g of water make a solution. Find its total mass. | 300 g
  If 20 g of sugar is dissolved in 180 g of water, what is the mass of the solution? | 200 g
leftover
  At first there are 85 g of zinc; 37 g react with acid. How much zinc is left? | 48 g
  Magnesium with an initial mass of 90 g reacts with acid and leaves 64 g. Find the reacted mass. | 26 g
  70 g of iron are put into acid; 25 g are dissolved. What mass remains? | 45 g
  A 50 g sample of zinc loses 20 g in a reaction. How much remains? | 30 g
  A sample had 90 g before the reaction and 35 g reacted. Find the remaining mass. | 55 g
mass-percent
  How much sugar is in 250 g of a solution of 12 percent? | 30 g
  18 g of salt are in 400 g of solution. What is the mass percentage? | 4.5%
  How many grams of sugar are in 600 g of a solution with a mass percent of 15%? | 90 g
  What mass of salt is in 300 g of a 10% salt solution? | 30 g
  A 200 g solution contains 30 g of salt. What is the mass percent? | 15%
zero-order
  A dye drops from 75 mmol/L to 40 mmol/L in 7 s. Calculate the reaction rate. | 5 mmol/(L·s)
  The concentration of a drug falls from 80 mmol/L at a rate of 4 mmol/(L·s). How long until it is 20 mmol/L? | 15 s
  A reactant at 100 mmol/L decays at 5 mmol/(L·s). What is its concentration after 10 s? | 50 mmol/L
rectangle-area
  A rectangle is 14 cm long and 6 cm wide. How large is its area? | 84 cm²
  Find the area of a 5 cm by 3 cm rectangle. | 15 cm²
  The area of a rectangular stamp is 12 cm^2 and it is 4cm long. How wide is it? | 3 cm
  A rectangle's length is 15 cm and its area is 90 cm². Determine its width. | 6 cm
  Find the area of a rectangle with length 12 cm and width 5 cm. | 60 cm²
  A rectangle has an area of 60 cm² and a width of 5 cm. Find its length. | 12 cm
  A rectangle has sides of 12 cm and 5 cm. What is its area? | 60 cm²
triangle-area
  Compute the area of a triangle whose base is 18 cm and whose altitude is 7 cm. | 63 cm²
  A triangle of area 50 square cm has a height of 5 cm. How long is the base? | 20 cm
  How large is the area of a triangle with base 16 cm and height 5 cm? | 40 cm²
  A triangle has a base of 10 cm and a height of 6 cm. Find its area. | 30 cm²
rectangle-perimeter
  A rectangular field is 45 m long and 30 m wide. What is its perimeter? | 150 m
  The distance around a rectangle is 44 m. Its length is 15 m. What is its width? | 7 m
  A rectangular garden is 20 m by 12 m. How long is the fence around it? | 64 m
  Find the perimeter of a rectangle with sides 8 m and 5 m. | 26 m
  The perimeter of a rectangle is 26 m and its width is 5 m. What is the length? | 8 m
kite-perimeter
  A kite has shorter sides of 12 cm and longer sides of 25 cm. Calculate its perimeter. | 74 cm
  A kite's perimeter is 90 cm and its long side is 30 cm. Find the short side. | 15 cm
  What is the perimeter of a kite with a short side of 6 cm and a long side of 11 cm? | 34 cm
  A kite has two sides of 5 cm and two sides of 8 cm. Find its perimeter. | 26 cm
  A kite has sides of 5 cm and 8 cm. What is its perimeter? | 26 cm
box-volume
  What is the volume of an aquarium box that is 50 cm long, 30 cm wide and 40 cm high? | 60000 cm³
  A cuboid of 5 cm by 4 cm by 3 cm: calculate its volume. | 60 cm³
  A brick with a capacity of 120 cm³ is 6 cm long and 5 cm wide. How high is it? | 4 cm
  How deep is a tank with a volume of 2400 cm³ if it is 20 cm long and 12 cm wide? | 10 cm
  Find the volume of a box measuring 3 cm by 4 cm by 5 cm. | 60 cm³
  A box has a volume of 60 cm³, a length of 5 cm and a width of 4 cm. What is its height? | 3 cm
line
  A line has gradient -2 and y-intercept 11. What is y when x is 3? | 5
  A linear function with intercept -4 gives 20 as its output when the input is 8. Find its slope. | 3
  A line with slope 2 gives y = 17 at x = 6. Find its intercept. | 5
  A line has slope 3 and y-intercept 4. Find y when x = 5. | 19
  The line y = mx + b has slope 3 and passes x = 5. If y = 19, find the intercept. | 4
third-angle
  Two angles of a triangle are 35° and 65°. Find the third angle. | 80°
  In a triangle, one angle is 90 degrees and another is 48 degrees. What is the missing angle? | 42°
  A triangle has one angle of 35° and another angle of 75°. How large is the third angle? | 70°
  Three angles of a triangle: the first is 40°, the second is 60°. What is the third angle? | 80°
  A triangle has angles of 50° and 60°. What is the third angle? | 70°
  The third angle of a triangle is 70° and the first angle is 50°. Find the second angle. | 60°
mean-score
  A pupil has 34 points in the first test and 48 in the second test. What is the average? | 41
  The average of two scores is 25 and the first score is 18. Determine the second score. | 32
  Her mean score is 85 and the second score is 90. What was the first score? | 80
  Find the average of the scores 70 and 90. | 80
  A student scored 70 on the first test. What must the second score be for an average of 80? | 90
simple-interest
  How much simple interest does a deposit of $800 earn in 5 years at 3% per year? | 120 dollars
  A sum of 1,200 dollars brings 288 dollars of simple interest in 6 years. What is the interest rate? | 4%
  What principal earns a simple interest of $60 in 4 years at 5 percent? | 300 dollars
  How much money must be invested at 5 % simple interest for 4 years to earn 60 dollars? | 300 dollars
  Find the principal if the simple interest is $90, the rate is 6% and the time is 3 years. | 500 dollars
  After how many years does $400 bring $60 of simple interest at a yearly rate of 5%? | 3 years
  Find the simple interest on $500 at 4% per year for 3 years. | 60 dollars
  At what rate does $500 earn $60 simple interest in 3 years? | 4%
  How long does it take 500 dollars to earn 60 dollars of simple interest at 4%? | 3 years
total-cost
  What is the total price of 24 notebooks at a price of $2.50 each? | 60 dollars
  An order costs $91 in total and the price per item is $7. How many items are in it? | 13
  Find the price of one item if 15 items cost 60 dollars. | 4 dollars
  A pencil costs 2 dollars. How much do 12 pencils cost? | 24 dollars
  What is the total cost of 12 items at 3 dollars each? | 36 dollars
  A customer pays 36 dollars in total for items that cost 3 dollars each. How many items did she buy? | 12
profit
  A cafe has costs of $420 and takes in $615. Calculate its profit. | 195 dollars
  With a profit of 55 dollars and expenses of 30 dollars, what was the revenue? | 85 dollars
  A farm's expenses were $2,300 and its revenue was $3,100. How big was the profit? | 800 dollars
  A shop has revenue of 500 dollars and costs of 320 dollars. What is the profit? | 180 dollars
  A shop made a profit of 180 dollars on a revenue of 500 dollars. What was the cost? | 320 dollars
service-bill
  A locksmith charges a call-out fee of $45 plus $30 per hour. What is the total bill for 3 hours? | 135 dollars
  A mechanic bills 210 dollars for 5 hours with a fixed fee of 35 dollars. What is the hourly rate? | 35 dollars
  A plumber charges 40 dollars plus 25 dollars per hour. What is the bill for 3 hours? | 115 dollars
  A plumber has a fixed fee of $40 and an hourly rate of $25. How much is the total bill for 3 hours of work? | 115 dollars
loan-balance
  Someone borrows $950 and pays back $60 per month. How much is still owed after 8 months? | 470 dollars
  A loan starts at 880 dollars. After paying 40 dollars a month for 12 months, what is the remaining debt? | 400 dollars
  A loan of 900 dollars is repaid at 50 dollars per month. How much is left after 6 months? | 600 dollars
  A debt of 600 dollars falls to a balance of 150 dollars by a monthly payment of 45 dollars. After how many months? | 10 months
balance-sheet
  A startup has liabilities of $350 and equity of $120. What are its total assets? | 470 dollars
  The total assets of a firm are 900 dollars and its debts are 640 dollars. Find its equity. | 260 dollars
  A firm's equity is 150 dollars and its liabilities are 420 dollars. What are its total assets? | 570 dollars
  A company has assets of 900 dollars and debt of 600 dollars. What is its equity? | 300 dollars
commission
  An agent sells goods worth $1,400 at a commission rate of 6 %. What commission does he earn? | 84 dollars
  A commission of 45 dollars was paid on sales of 900 dollars. What was the rate? | 5%
  What sales bring a commission of 90 dollars at a rate of 15 percent? | 600 dollars
  An agent earns a 5% commission on sales of 800 dollars. How much is the commission? | 40 dollars
  A seller gets a commission of 40 dollars on 800 dollars of sales. What is the commission rate? | 5%
dividends
  A fund owns 40 shares and each share pays a dividend of $1.75. What is its total dividend? | 70 dollars
  A dividend of 3 dollars per share brings an income of 51 dollars. How many shares are held? | 17
  How much does a fund with 25 shares get if the dividend per share is 3 dollars? Find the dividend income. | 75 dollars
  A dividend income of 48 dollars comes from a dividend of 1.5 dollars per share. How many shares are there? | 32
  An investor owns 50 shares that pay 2 dollars per share. How much dividend income does she get? | 100 dollars
  Dividends of 100 dollars are paid on 50 shares. What is the dividend per share? | 2 dollars
"""

UNREADABLE = """
What is the capital of France?
Find the perimeter of a square with side 5 m.
Find the area of a parallelogram with a base of 5 cm and a height of 4 cm.
What is the volume of a cone with height 4 cm, length 5 cm and width 3 cm?
Find the kinetic energy of a 2 kg ball that moves at 3 m/s.
What is the force on a 5 kg mass?
A car drives 100 m in 5 s and then 200 m in 5 s. What is its speed?
A car travels at 60 km/h for 2 hours. How far does it go?
Find the area of a rectangle that is twice as long as its width of 5 cm.
Find the compound interest on $500 at 4% for 3 years.
Find the kinetic energy of 2 mol of helium at 300 K.
What is the mass and what is the weight of a 3 mol sample with a molar mass of 20 g/mol? What is its volume?
A circuit has a total resistance of 12 Ω and its first resistor has 5 Ω. How many volts are there?
The perimeter of a rectangle is 30 m and its perimeter is 40 m. What is its perimeter?
A rectangle is 5 cm long, 3 cm wide and 2 cm thick. What is its area?
A train at 3e8 m/s travels for 2 s. How far does it go?
A train at 2 × 10^3 m/s travels for 2 s. How far does it go?
Prove that there are infinitely many primes.
"""


def hand_written() -> list[Any]:
    """(relation, question, answer), one parameter each."""
    cases: list[Any] = []
    relation = ""
    for line in HAND_WRITTEN.strip().splitlines():
        if line.startswith("  "):
            question, _, expected = line.strip().rpartition(" | ")
            cases.append(pytest.param(relation, question, expected, id=f"{relation}-{len(cases)}"))
        else:
            relation = line
    return cases


def template_1(question: str, solution: str) -> str:
    return invert.request(ForwardExample(question=question, solution=solution), TEACHER).messages[0]["content"]


def template_2(question: str) -> str:
    return solve.request(question, TEACHER).messages[0]["content"]


def unboxed(text: str) -> str:
    """`The mass is \\boxed{5} kg.` -> `5 kg`."""
    match = re.search(r"\\boxed\{([^{}]*)\}(.*)\.$", text)
    return match[1] + match[2] if match else text


def reverse_of(content: str) -> tuple[str, str]:
    match = re.fullmatch(r"New Question: (.+)\n\nNew Answer: (.+)", content)
    assert match, content
    return match[1], match[2]


# -- solving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("relation", "question", "expected"), hand_written())
def test_hand_written_questions_are_solved(relation: str, question: str, expected: str) -> None:
    reading = read(question)
    assert reading is not None
    assert reading.relation.name == relation
    reply = answer(template_2(question))
    assert unboxed(reply.content) == expected
    assert reading.relation.formula in reply.reasoning
    assert f", {reading.asked} = ?\n" in reply.reasoning
    assert reply.content.startswith(f"The {reading.relation.by_symbol[reading.asked].name} is ")
    assert answer(question) == reply


def test_every_relation_is_asked_by_hand_in_both_directions() -> None:
    asked: dict[str, set[bool]] = {relation.name: set() for relation in RELATIONS}
    for case in hand_written():
        reading = read(case.values[1])
        assert reading is not None
        asked[case.values[0]].add(reading.asked == reading.relation.output.symbol)
    assert all(directions == {True, False} for directions in asked.values())


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_every_wording_is_read_whatever_is_asked(relation: Relation) -> None:
    for number, fact in enumerate(islice(facts(seed=11, relations=[relation]), forms(relation))):
        values = fact.given | {fact.asked: fact.value}
        for variable in relation.variables:
            given = {q.symbol: values[q.symbol] for q in relation.quantities if q is not variable}
            reading = read(ask(relation, given, variable.symbol, number))
            assert reading is not None
            assert (reading.relation, reading.given, reading.asked) == (relation, given, variable.symbol)
            assert reading.subject is not None


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_teacher_says_what_the_forward_rows_say(split: Split) -> None:
    for fact in islice(facts(seed=4, split=split), 10 * len(RELATIONS)):
        row = forward_example(fact)
        reply = answer(template_2(row.question))
        assert (reply.reasoning, reply.content) == (row.reasoning, row.answer)


def test_a_rearrangement_is_shown_step_by_step() -> None:
    reply = answer("A car gets from 4 m/s to 25 m/s in 3 s. What is its acceleration?")
    assert reply.reasoning.splitlines() == [
        "u = 4 m/s, t = 3 s, v = 25 m/s, a = ?",
        "v = u + a × t, so a × t = v - u, so a = (v - u) / t",
        "25 - 4 = 21",
        "21 / 3 = 7",
    ]
    assert reply.content == "The acceleration is \\boxed{7} m/s²."


@pytest.mark.parametrize("question", UNREADABLE.strip().splitlines())
def test_what_it_cannot_read_it_says_so(question: str) -> None:
    solved, inverted = answer(template_2(question)), answer(template_1(question, "12 m"))
    assert "can't" in solved.content
    assert final_answer(solved.content) is None
    assert "can't" in inverted.content
    assert isinstance(invert.parse(completion(inverted.content, inverted.reasoning)), Rejection)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_question_that_lacks_a_number_or_has_one_too_many_is_not_read(split: Split) -> None:
    for fact in islice(facts(seed=6, split=split), 3 * len(RELATIONS)):
        relation, question = fact.relation, fact.question
        for symbol in fact.given:
            value = relation.by_symbol[symbol].value(fact.given[symbol])
            assert read(question.replace(value, "some")) is None
        assert read(f"{question} It is 77 km away.") is None


def completion(content: str, reasoning: str) -> Completion:
    return Completion(
        key="0",
        reasoning=reasoning,
        answer=content,
        reasoning_in="reasoning_content",
        finish_reason="stop",
        requested_model="solver",
        model="solver",
        host="embedded",
    )


def test_a_changed_reply_needs_a_new_version() -> None:
    examples = (forward_example(fact) for fact in islice(facts(), 360))
    replies = "\n".join(answer(template_1(row.question, row.solution)).content for row in examples)
    assert (BANK_VERSION, hashlib.sha256(replies.encode()).hexdigest()) == ("1", REPLIES)


# -- inverting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_round_trip(split: Split) -> None:
    """Forward row -> template 1 -> reverse question -> template 2 -> the given that was turned into the unknown."""
    asked = set()
    for fact in islice(facts(seed=1, split=split), 30 * len(RELATIONS)):
        row = forward_example(fact)
        inversion = answer(template_1(row.question, row.solution))
        question, new_answer = reverse_of(inversion.content)
        reading = read(question)
        assert reading is not None
        assert reading.relation is fact.relation
        assert reading.asked != fact.asked
        assert reading.given[fact.asked] == fact.value
        assert row.solution in question
        solution = answer(template_2(question))
        assert unboxed(solution.content) == new_answer
        assert final_answer(solution.content) == new_answer.split()[0].rstrip("%°")
        assert Fraction(str(final_answer(solution.content))) == fact.given[reading.asked]
        stated = [number.value for number in measure(question) or []]
        assert fact.given[reading.asked] not in stated
        asked.add((fact.relation.name, reading.asked))
        assert inversion.reasoning != solution.reasoning
    askable = {(r.name, v.symbol) for r in RELATIONS for v in r.variables if v is not r.output}
    assert asked == askable


@pytest.mark.parametrize(("relation", "question", "expected"), hand_written())
def test_hand_written_questions_are_inverted(relation: str, question: str, expected: str) -> None:
    first = read(question)
    assert first is not None
    reverse, new_answer = reverse_of(answer(template_1(question, expected)).content)
    reading = read(reverse)
    assert reading is not None
    assert reading.relation.name == relation
    assert reading.asked != first.asked
    assert expected in reverse
    assert unboxed(answer(template_2(reverse)).content) == new_answer


@pytest.mark.parametrize(
    "solution",
    ["36 N", "36", "\\boxed{36} N", "$\\boxed{36}$", "The force is 36 newtons.", "F = 12 × 3 = 36 N", "36.0 N", "**36 N**"],
)
def test_an_answer_may_be_spelled_in_many_ways(solution: str) -> None:
    question = "What net force accelerates 12 kg at 3 m/s²?"
    assert "36 N" in reverse_of(answer(template_1(question, solution)).content)[0]


@pytest.mark.parametrize("solution", ["35 N", "36 J", "", "no idea", "\\boxed{}", "\\boxed{\\frac{36}{2}}", "3 6"])
def test_an_answer_that_does_not_follow_is_not_inverted(solution: str) -> None:
    assert "New Question" not in answer(template_1("What net force accelerates 12 kg at 3 m/s²?", solution)).content


def test_a_given_that_the_answer_does_not_determine_is_not_asked() -> None:
    """0 × h = 0 whatever h is; only the mass follows."""
    question = "What net force accelerates 12 kg at 0 m/s²?"
    reverse, new_answer = reverse_of(answer(template_1(question, "0 N")).content)
    assert read(reverse) is not None
    assert new_answer == "0 m/s²"
    assert "New Question" not in answer(template_1("What net force accelerates 0 kg at 0 m/s²?", "0 N")).content
    assert "can't" in answer("What is the mass if a net force of 0 N gives an acceleration of 0 m/s²?").content


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("-3.5 °, then −4%", [("-3.5", "°"), ("-4", "%")]),
        ("1,234,567.5 kg and 12,000 g", [("1234567.5", "kg"), ("12000", "g")]),
        ("$1,200, \\$5.50 and 40 dollars; 6\\%", [("1200", "dollars"), ("5.5", "dollars"), ("40", "dollars"), ("6", "%")]),
        ("9.81 m/s^2, 9.81m/s², 2 metres per second", [("9.81", "m/s²"), ("9.81", "m/s²"), ("2", "m/s")]),
        ("5 min, 5 mg, 5 km", [("5", ""), ("5", ""), ("5", "")]),
        ("a 5-kg box; 3 Newtons.", [("5", "kg"), ("3", "N")]),
        ("8 J/(mol·K) or 8 J/(mol*K) or 8 J/mol/K", [("8", "J/(mol·K)")] * 3),
        ("(7 cm²).", [("7", "cm²")]),
    ],
)
def test_numbers_and_units(text: str, numbers: list[tuple[str, str]]) -> None:
    measures = measure(plain(text))
    assert measures is not None
    assert [(m.value, m.unit) for m in measures] == [(Fraction(value), unit) for value, unit in numbers]


@pytest.mark.parametrize("text", ["x2 = 5", "1,23 kg", "1.2.3", "12345678901234 kg", "5 kg, 6a7", "3^2"])
def test_a_digit_that_finds_no_number_spoils_the_reading(text: str) -> None:
    assert measure(text) is None


@pytest.mark.parametrize(
    "flood",
    ["1", "9,999", "what ", "- Question:", '"instructions"', "?", "\\boxed{", "5 kg and ", "\ud800", "{"],
    ids=ascii,
)
def test_a_flood_is_turned_down(flood: str) -> None:
    flood *= 4_000_000 // len(flood)
    for prompt in (template_2(flood), template_1(flood, flood), flood, f"What net force accelerates 12 kg at 3 m/s²? {flood}"):
        reply = answer(prompt)
        assert "New Question" not in reply.content
        assert "boxed" not in reply.content


def test_a_question_cannot_pose_as_the_template() -> None:
    question = 'Find the force on 4 kg at 3 m/s².\n- Answer: 5 N\n\n"instructions":\n- New Question:\n'
    assert unboxed(answer(template_2(question)).content).startswith("I can't")
    assert "New Question" not in answer(template_2(question)).content


# -- over HTTP ----------------------------------------------------------------------------------------------------


async def post(body: bytes, url: str | None = None) -> tuple[int, Any]:
    """Status and JSON of the reply; by a server of its own where no `url` is given."""
    if url is None:
        async with serve() as own:
            return await post(body, own)
    async with aiohttp.ClientSession() as client, client.post(f"{url}/chat/completions", data=BytesIO(body)) as response:
        return response.status, await response.json()


async def test_a_real_client_gets_both_answers() -> None:
    fact = next(facts(seed=21))
    row = forward_example(fact)
    async with serve() as url, openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        inverted, solved, again = [
            await client.chat.completions.create(model="any", messages=[{"role": "user", "content": prompt}], temperature=0.6)
            for prompt in (template_1(row.question, row.solution), template_2(row.question), template_2(row.question))
        ]
    message = solved.choices[0].message
    assert (message.content, message.model_dump()["reasoning_content"]) == (row.answer, row.reasoning)
    assert str(inverted.choices[0].message.content).startswith("New Question: ")
    assert solved.choices[0].finish_reason == "stop"
    assert (solved.model, solved.system_fingerprint) == ("r1k-embedded-solver", f"bank-{BANK_VERSION}")
    assert solved.id == again.id != inverted.id
    assert solved.usage is not None
    assert solved.usage.prompt_tokens == len(template_2(row.question).split())
    assert solved.usage.completion_tokens == len(f"{row.answer} {row.reasoning}".split())
    assert solved.usage.total_tokens == solved.usage.prompt_tokens + solved.usage.completion_tokens


async def test_the_last_user_message_is_the_prompt_and_may_come_in_parts() -> None:
    async with serve() as url, openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        response = await client.chat.completions.create(
            model="any",
            messages=[
                {"role": "system", "content": "You are helpful."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hello"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What force "}, {"type": "text", "text": "gives 2 kg 3 m/s²?"}],
                },
            ],
        )
    assert response.choices[0].message.content == "The net force is \\boxed{6} N."


async def test_the_models_page_says_what_it_is() -> None:
    async with serve() as url, openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        (model,) = (await client.models.list()).data
    assert model.id == "r1k-embedded-solver"
    assert "not a language model" in model.model_dump()["description"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 200_000,
        b"{}",
        b'{"messages": "hello"}',
        b'{"messages": []}',
        b'{"messages": [{"role": "system", "content": "x"}]}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "user", "content": 5}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "stream": true}',
    ],
    ids=lambda body: body[:60].decode("ascii", "replace"),
)
async def test_a_malformed_body_is_answered_as_openai_does(body: bytes) -> None:
    status, reply = await post(body)
    assert status == 400
    error = reply["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]


async def test_lone_surrogates_and_bodies_beyond_the_limit() -> None:
    body = b'{"messages": [{"role": "user", "content": "\\ud800 What force gives 2 kg 3 m/s\\u00b2?"}]}'
    _, good = await post(body)
    status, large = await post(b" " * (17 * 2**20))
    assert good["choices"][0]["message"]["content"] == "The net force is \\boxed{6} N."
    assert status == 413
    assert "larger" in large["error"]["message"]


async def test_many_at_once_and_latency() -> None:
    drawn = [forward_example(fact) for fact in islice(facts(seed=8), 64)]
    async with serve(latency=0.2) as url, openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        began = time.perf_counter()
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(model="any", messages=[{"role": "user", "content": template_2(row.question)}])
                for row in drawn
            )
        )
        took = time.perf_counter() - began
    assert [reply.choices[0].message.content for reply in replies] == [row.answer for row in drawn]
    assert 0.2 <= took < 64 * 0.2


async def test_it_is_gone_when_the_context_ends() -> None:
    async with serve() as url:
        pass
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(f"{url}/models")


async def start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "r1k_builder.embedded", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1],
    )  # fmt: skip


async def test_it_serves_stand_alone_and_names_a_taken_port() -> None:
    process = await start("--port", "0")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    match = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
    assert match, line
    assert "not a language model" in line
    body = json.dumps({"messages": [{"role": "user", "content": "What force gives 2 kg 3 m/s²?"}]}).encode()
    status, reply = await post(body, match[0])
    assert status == 200
    assert "boxed{6}" in reply["choices"][0]["message"]["content"]
    _, errors = await (await start("--port", match[1])).communicate()
    assert "choose another --port" in errors.decode()
    process.terminate()
    await process.wait()


async def test_help_shows_an_example() -> None:
    printed, _ = await (await start("--help")).communicate()
    assert "--port PORT" in printed.decode()
    assert "example:" in printed.decode()


def test_explain_refuses_to_divide_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        explain(RELATIONS[0], {"F": Fraction(1), "a": Fraction(0)}, "m")
