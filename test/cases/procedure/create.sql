CREATE TABLE procedure_rows (id INT PRIMARY KEY, v VARCHAR(20));
$$
CREATE PROCEDURE procedure_fill(IN many INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  START TRANSACTION;
  WHILE i < many DO
    INSERT INTO procedure_rows VALUES (i, CONCAT('nr ', i));
    SET i = i + 1;
  END WHILE;
  COMMIT;
  DELETE FROM procedure_rows WHERE id % 3 = 0;
END
$$
$$
CREATE FUNCTION procedure_put(k INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA
BEGIN
  INSERT INTO procedure_rows VALUES (k, 'by a function');
  RETURN k;
END
$$
