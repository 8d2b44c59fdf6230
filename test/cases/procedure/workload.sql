CALL procedure_fill(20);
SELECT procedure_put(100);
DO procedure_put(101);
DROP FUNCTION procedure_put;
DROP PROCEDURE procedure_fill;
